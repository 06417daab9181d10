"""What TailorKV's GPU attention is measured against, on the same GPU: full attention of PyTorch (SDPA, BF16) with all keys
and values in GPU memory, and transformers' offloading cache. 32 layers, 32 query and 8 KV heads of 128. Arguments: context
lengths in units of 1024 tokens, separated by commas."""

import sys
import time

import torch
import torch.nn.functional as F

LAYERS, HEADS, KV_HEADS, SIZE, CHUNK = 32, 32, 8, 128, 256


def rows(heads, tokens, device="cuda"):
    return torch.randn(1, heads, tokens, SIZE, device=device, dtype=torch.bfloat16)


def seconds(work, repeats):
    for _ in range(2):
        work()
    torch.cuda.synchronize()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]


def sdpa(q, k, v, causal=False):
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)


def full(context):
    """Decode of all layers, SDPA; prefill of the whole prompt; a chunk of it as Jlama sends it."""
    try:
        cache = [(rows(KV_HEADS, context), rows(KV_HEADS, context)) for _ in range(LAYERS)]
        q = rows(HEADS, 1)
        decode = seconds(lambda: [sdpa(q, k, v) for k, v in cache], 10)
        k, v = cache[0]
        chunk = rows(HEADS, CHUNK)
        one = seconds(lambda: sdpa(chunk, k, v), 5)
        whole_q = rows(HEADS, context)
        whole = seconds(lambda: sdpa(whole_q, k, v, True), 2)
        work = 4.0 * HEADS * SIZE * context
        print(f"SDPA {context // 1024}k: decode {decode * 1e3:.2f} ms/token, prefill of the prompt "
              f"{work * context / 2 / whole * 1e-12:.0f} TFLOP/s, of its last {CHUNK} tokens "
              f"{work * CHUNK / one * 1e-12:.0f} TFLOP/s, GPU {LAYERS * 4 * KV_HEADS * SIZE * context / 2**20:.0f} MiB",
              flush=True)
    except Exception as e:
        print(f"SDPA {context // 1024}k: {type(e).__name__}: {str(e)[:200]}", flush=True)


def offloaded(context):
    try:
        import transformers
        from transformers import DynamicCache

        try:
            cache = DynamicCache(offloading=True)
        except TypeError:
            from transformers import OffloadedCache
            cache = OffloadedCache()
        for layer in range(LAYERS):
            cache.update(rows(KV_HEADS, context), rows(KV_HEADS, context), layer)
        q = rows(HEADS, 1)

        def step():
            for layer in range(LAYERS):
                k, v = cache.update(rows(KV_HEADS, 1), rows(KV_HEADS, 1), layer)
                sdpa(q, k, v)

        step()
        peak = torch.cuda.memory_allocated()
        print(f"OffloadedCache (transformers {transformers.__version__}) {context // 1024}k: decode "
              f"{seconds(step, 2) * 1e3:.0f} ms/token, GPU {peak / 2**20:.0f} MiB after a step", flush=True)
    except Exception as e:
        print(f"OffloadedCache {context // 1024}k: {type(e).__name__}: {str(e)[:200]}", flush=True)


if __name__ == "__main__":
    print(f"PyTorch {torch.__version__}, {torch.cuda.get_device_name()}", flush=True)
    for text in sys.argv[1].split(","):
        full(int(text) * 1024)
        torch.cuda.empty_cache()
    for text in sys.argv[2].split(","):
        offloaded(int(text) * 1024)
        torch.cuda.empty_cache()

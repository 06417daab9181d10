package io.github.tailorkv.cache;

/** Scratch memory, the three passes of attention and what measures them, lent to one call at a time and reused ever after. */
final class Workspace implements AutoCloseable {

    private final DecodeScratch[] scratch;
    final LayerProbe probe;
    final PrefillPass prefill;
    final DecodePass decode;
    final RetrievalPass retrieval;

    Workspace(LayerContext context, int slots) {
        scratch = new DecodeScratch[slots];
        for (int slot = 0; slot < slots; slot++) {
            scratch[slot] = new DecodeScratch(context.kernels(), context.shape());
        }
        probe = new LayerProbe(context.kernels(), context.shape(), context.settings(), scratch);
        prefill = new PrefillPass(context.kernels(), context.shape(), scratch);
        decode = new DecodePass(context.kernels(), context.shape(), scratch);
        retrieval = new RetrievalPass(context.kernels(), context.shape(), context.settings(), scratch,
                probe);
    }

    @Override
    public void close() {
        prefill.close();
        decode.close();
        retrieval.close();
        probe.close();
        for (DecodeScratch work : scratch) {
            work.close();
        }
    }
}

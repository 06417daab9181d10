// Writes a GGUF file of random Q4_0 weights, tensor by tensor, so that a model of any size can be written.
//
// A Q4_0 block is an f16 scale and 32 nibbles, value = scale * (nibble - 8). Nibbles are random bytes; the scale gives a
// matrix that keeps the size of its input, as the random models of the Java harness do.

import {randomFillSync} from "node:crypto";
import {closeSync, openSync, renameSync, writeSync} from "node:fs";

const ALIGNMENT = 32;
const BLOCK = 32;
const BLOCK_BYTES = 18;
const NIBBLE_DEVIATION = 4.61;
const TYPE = {F32: 0, Q4_0: 2};
const KV = {UINT32: 4, INT32: 5, FLOAT32: 6, STRING: 8, ARRAY: 9};
const TOKEN = {NORMAL: 1, UNKNOWN: 2, CONTROL: 3, BYTE: 6};

function halfBits(value) {
    // Normal numbers only, which is all that a scale is.
    const bits = new Uint32Array(Float32Array.of(value).buffer)[0];
    return (((bits >>> 23) - 112) << 10) | ((bits >>> 13) & 0x3ff);
}

class Bytes {
    parts = [];
    add(size, write) {
        const part = Buffer.alloc(size);
        write(part);
        this.parts.push(part);
    }
    u32(value) {
        this.add(4, (b) => b.writeUInt32LE(value));
    }
    u64(value) {
        this.add(8, (b) => b.writeBigUInt64LE(BigInt(value)));
    }
    i32(value) {
        this.add(4, (b) => b.writeInt32LE(value));
    }
    f32(value) {
        this.add(4, (b) => b.writeFloatLE(value));
    }
    string(text) {
        this.u64(Buffer.byteLength(text));
        this.parts.push(Buffer.from(text));
    }
    value(type, value) {
        if (type === KV.ARRAY) {
            this.u32(value.type);
            this.u64(value.items.length);
            value.items.forEach((item) => this.value(value.type, item));
        } else {
            const write = {[KV.UINT32]: this.u32, [KV.INT32]: this.i32, [KV.FLOAT32]: this.f32, [KV.STRING]: this.string};
            write[type].call(this, value);
        }
    }
    all() {
        return Buffer.concat(this.parts);
    }
}

function tensors(shape) {
    const {layers, hidden, heads, kvHeads, headSize, feedForward, vocabulary} = shape;
    const matrix = (name, rows, columns) => ({name, dims: [columns, rows], type: TYPE.Q4_0});
    const norm = (name) => ({name, dims: [hidden], type: TYPE.F32});
    const all = [matrix("token_embd.weight", vocabulary, hidden)];
    for (let layer = 0; layer < layers; layer++) {
        const base = `blk.${layer}.`;
        all.push(
            norm(base + "attn_norm.weight"),
            matrix(base + "attn_q.weight", heads * headSize, hidden),
            matrix(base + "attn_k.weight", kvHeads * headSize, hidden),
            matrix(base + "attn_v.weight", kvHeads * headSize, hidden),
            matrix(base + "attn_output.weight", hidden, heads * headSize),
            norm(base + "ffn_norm.weight"),
            matrix(base + "ffn_gate.weight", feedForward, hidden),
            matrix(base + "ffn_up.weight", feedForward, hidden),
            matrix(base + "ffn_down.weight", hidden, feedForward));
    }
    all.push(norm("output_norm.weight"));
    return all;
}

function byteSize({dims, type}) {
    const elements = dims.reduce((a, b) => a * b, 1);
    return type === TYPE.F32 ? 4 * elements : (elements / BLOCK) * BLOCK_BYTES;
}

function metadata(shape) {
    return [
        ["general.architecture", KV.STRING, "llama"],
        ["general.name", KV.STRING, "random"],
        ["llama.context_length", KV.UINT32, shape.context],
        ["llama.embedding_length", KV.UINT32, shape.hidden],
        ["llama.block_count", KV.UINT32, shape.layers],
        ["llama.feed_forward_length", KV.UINT32, shape.feedForward],
        ["llama.attention.head_count", KV.UINT32, shape.heads],
        ["llama.attention.head_count_kv", KV.UINT32, shape.kvHeads],
        ["llama.attention.layer_norm_rms_epsilon", KV.FLOAT32, 1e-5],
        ["llama.rope.freq_base", KV.FLOAT32, 10000],
        ["llama.rope.dimension_count", KV.UINT32, shape.headSize],
        ["llama.vocab_size", KV.UINT32, shape.vocabulary],
        ...vocabulary(shape.vocabulary),
    ];
}

/** Tokens that nobody reads, but without which a model does not load. */
function vocabulary(size) {
    const tokens = [["<unk>", TOKEN.UNKNOWN], ["<s>", TOKEN.CONTROL], ["</s>", TOKEN.CONTROL]];
    for (let byte = 0; byte < 256; byte++) {
        tokens.push([`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, TOKEN.BYTE]);
    }
    while (tokens.length < size) {
        tokens.push([`\u2581w${tokens.length}`, TOKEN.NORMAL]);
    }
    const items = (type, of) => ({type, items: tokens.map(of)});
    return [
        ["tokenizer.ggml.model", KV.STRING, "llama"],
        ["tokenizer.ggml.tokens", KV.ARRAY, items(KV.STRING, ([text]) => text)],
        ["tokenizer.ggml.scores", KV.ARRAY, items(KV.FLOAT32, (_, index) => -index)],
        ["tokenizer.ggml.token_type", KV.ARRAY, items(KV.INT32, ([, type]) => type)],
        ["tokenizer.ggml.bos_token_id", KV.UINT32, 1],
        ["tokenizer.ggml.eos_token_id", KV.UINT32, 2],
    ];
}

function header(shape, all) {
    const bytes = new Bytes();
    bytes.parts.push(Buffer.from("GGUF"));
    bytes.u32(3);
    bytes.u64(all.length);
    const entries = metadata(shape);
    bytes.u64(entries.length);
    for (const [key, type, value] of entries) {
        bytes.string(key);
        bytes.u32(type);
        bytes.value(type, value);
    }
    let offset = 0;
    for (const tensor of all) {
        bytes.string(tensor.name);
        bytes.u32(tensor.dims.length);
        tensor.dims.forEach((dim) => bytes.u64(dim));
        bytes.u32(tensor.type);
        bytes.u64(offset);
        offset += padded(byteSize(tensor));
    }
    const raw = bytes.all();
    return Buffer.concat([raw, Buffer.alloc(padded(raw.length) - raw.length)]);
}

function padded(size) {
    return Math.ceil(size / ALIGNMENT) * ALIGNMENT;
}

function data(tensor) {
    const bytes = Buffer.alloc(padded(byteSize(tensor)));
    if (tensor.type === TYPE.F32) {
        new Float32Array(bytes.buffer, bytes.byteOffset, tensor.dims[0]).fill(1);
        return bytes;
    }
    randomFillSync(bytes);
    const scale = halfBits(1 / (NIBBLE_DEVIATION * Math.sqrt(tensor.dims[0])));
    for (let block = 0; block + BLOCK_BYTES <= bytes.length; block += BLOCK_BYTES) {
        bytes.writeUInt16LE(scale, block);
    }
    return bytes;
}

/** Writes the file, which appears under its name only when it is complete. */
export function writeGguf(path, shape) {
    const all = tensors(shape);
    const draft = path + ".draft";
    const file = openSync(draft, "w");
    writeSync(file, header(shape, all));
    for (const tensor of all) {
        writeSync(file, data(tensor));
    }
    closeSync(file);
    renameSync(draft, path);
}

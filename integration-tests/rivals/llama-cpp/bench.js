// llama.cpp's speed on random weights: prefill and decode at growing context lengths, F16 cache, flash attention.
//
//   npm run setup                                  fetches node-llama-cpp with its prebuilt binary, once
//   node bench.js --contexts 2k,8k                 as the Java harness: real prefill
//   node bench.js --contexts 8k,32k --synthetic-prefill
//
// Neither side computes logits: tokens go in, the cache grows. Prints a table, and JSON lines with the same names as the
// Java harness's into --json.

import {appendFileSync, closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeSync} from "node:fs";
import {cpus, tmpdir} from "node:os";
import {join} from "node:path";
import {parseArgs} from "node:util";
import {getLlama} from "node-llama-cpp";
import {writeGguf} from "./gguf.js";

const CHUNK = 512;
const SETTLING_STEPS = 8;

const SHAPES = {
    tiny: {layers: 2, hidden: 256, heads: 4, kvHeads: 2, headSize: 64, feedForward: 512, vocabulary: 1024},
    llama_1b: {layers: 16, hidden: 2048, heads: 32, kvHeads: 8, headSize: 64, feedForward: 8192, vocabulary: 32000},
};

const {values: options} = parseArgs({
    options: {
        shape: {type: "string", default: "llama_1b"},
        contexts: {type: "string", default: "2k,8k"},
        "synthetic-prefill": {type: "boolean", default: false},
        rounds: {type: "string", default: "2"},
        "decode-steps": {type: "string", default: "24"},
        marginal: {type: "string", default: "512"},
        "warm-up": {type: "string", default: "512"},
        threads: {type: "string", default: String(Math.max(2, cpus().length / 2))},
        json: {type: "string"},
    },
});

const shape = SHAPES[options.shape];
if (!shape) {
    console.error(`--shape takes one of ${Object.keys(SHAPES).join(", ")}`);
    process.exit(2);
}
shape.context = 129 * 1024;
const contexts = options.contexts.split(",").map((text) => {
    const count = text.endsWith("k") ? 1024 * Number(text.slice(0, -1)) : Number(text);
    if (!(Number.isInteger(count) && count > 0 && count <= 128 * 1024)) {
        console.error(`'${text}' is no context length up to 128k`);
        process.exit(2);
    }
    return count;
}).sort((a, b) => a - b);
const steps = Number(options["decode-steps"]);

const modelPath = new URL(`./random-${options.shape}.gguf`, import.meta.url).pathname;
if (!existsSync(modelPath)) {
    console.error(`writing ${modelPath}`);
    writeGguf(modelPath, shape);
}

const median = (values) => quantile(0.5, values);

function quantile(fraction, values) {
    const sorted = Float64Array.from(values).sort();
    const rank = fraction * (sorted.length - 1);
    const below = Math.floor(rank);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (rank - below) * (sorted[above] - sorted[below]);
}

/** One session below node-llama-cpp's own queue, whose scheduling would count as decode time. */
class Session {
    position = 0;

    constructor(context) {
        this.context = context;
    }

    /** Seconds that a batch of random tokens took. */
    async feed(count) {
        const tokens = Uint32Array.from({length: count}, () => Math.floor(Math.random() * shape.vocabulary));
        this.context.initBatch(count);
        this.context.addToBatch(0, this.position, tokens, new Uint32Array());
        const begin = performance.now();
        await this.context.decodeBatch();
        this.position += count;
        return (performance.now() - begin) / 1000;
    }

    /** Milliseconds of each step. */
    async decode(count) {
        const times = [];
        for (let i = 0; i < count; i++) {
            times.push(1000 * (await this.feed(1)));
        }
        return times;
    }

    /** Tokens/s over the last tokens before the context length, and seconds in all. */
    async prefillTo(length) {
        let seconds = 0;
        let marginalTokens = 0;
        let marginalSeconds = 0;
        while (this.position < length) {
            const count = Math.min(CHUNK, length - this.position);
            const time = await this.feed(count);
            seconds += time;
            if (this.position > length - Number(options.marginal)) {
                marginalTokens += count;
                marginalSeconds += time;
            }
        }
        return {seconds, marginal: marginalTokens / marginalSeconds};
    }

    /** Fills the cache with copies of a short prompt's rows, by way of a saved session that is made longer. */
    async fillTo(length) {
        const folder = mkdtempSync(join(tmpdir(), "rival-"));
        try {
            const short = join(folder, "short.state");
            const long = join(folder, "long.state");
            this.clear();
            await this.feed(Math.min(256, length));
            await this.context.saveSequenceStateToFile(short, 0, new Uint32Array(this.position));
            this.clear();
            lengthen(readFileSync(short), long, length);
            await this.context.loadSequenceStateFromFile(long, 0, shape.context);
            this.position = length;
        } finally {
            rmSync(folder, {recursive: true});
        }
    }

    clear() {
        this.context.disposeSequence(0);
        this.position = 0;
    }
}

/**
 * Makes a saved session of some tokens one of many by repeating their keys and values. The file, in llama.cpp's words:
 * magic, version, token count, tokens; streams (1), cells; position, sequences (1) and sequence of each cell; whether
 * values are transposed (0), layers; for the keys of each layer, then the values of each: type, bytes a row (64 bits), rows.
 */
function lengthen(state, path, length) {
    const count = state.readUInt32LE(8);
    let at = 12 + 4 * count;
    const expect = (value, what) => {
        if (state.readUInt32LE(at) !== value) {
            throw new Error(`unknown session format: ${what} is ${state.readUInt32LE(at)}, not ${value}`);
        }
        at += 4;
    };
    const file = openSync(path, "w");
    const words = (...values) => writeSync(file, Uint32Array.from(values));
    writeSync(file, state, 0, 8);
    words(length, ...new Uint32Array(length));
    expect(1, "the number of streams");
    expect(count, "the number of cells");
    words(1, length);
    at += 12 * count;
    for (let position = 0; position < length; position++) {
        words(position, 1, 0);
    }
    expect(0, "the transposition of values");
    expect(shape.layers, "the number of layers");
    words(0, shape.layers);
    for (let part = 0; part < 2 * shape.layers; part++) {
        const rowBytes = Number(state.readBigUInt64LE(at + 4));
        writeSync(file, state, at, 12);
        const rows = state.subarray(at + 12, at + 12 + count * rowBytes);
        for (let done = 0; done < length; done += count) {
            writeSync(file, rows, 0, Math.min(count, length - done) * rowBytes);
        }
        at += 12 + rows.length;
    }
    closeSync(file);
    if (at !== state.length) {
        throw new Error(`unknown session format: ${state.length - at} bytes left`);
    }
}

async function measure(context, round) {
    const lines = [];
    const session = new Session(context);
    await session.prefillTo(Number(options["warm-up"]));
    await session.decode(SETTLING_STEPS);
    session.clear();
    let prefillSeconds = 0;
    let prefilled = 0;
    for (const length of [0, ...contexts]) {
        let marginal;
        if (length > 0 && options["synthetic-prefill"]) {
            await session.fillTo(length);
        } else if (length > 0) {
            const before = session.position;
            const result = await session.prefillTo(length);
            marginal = result.marginal;
            prefillSeconds += result.seconds;
            prefilled += session.position - before;
        }
        await session.decode(SETTLING_STEPS);
        const times = await session.decode(steps);
        lines.push({
            configuration: "llama.cpp",
            round,
            context: length,
            synthetic: options["synthetic-prefill"],
            prefillMarginal: marginal,
            prefillTotal: marginal === undefined ? undefined : prefilled / prefillSeconds,
            decodeMs: median(times),
            decodeMsLow: quantile(0.1, times),
            decodeMsHigh: quantile(0.9, times),
            residentBytes: process.memoryUsage.rss(),
        });
        if (length === 0) {
            session.clear();
        }
    }
    return lines;
}

const llama = await getLlama({gpu: false, build: "never", logLevel: "error"});
const model = await llama.loadModel({modelPath, gpuLayers: 0});
const lines = [];
for (let round = 1; round <= Number(options.rounds); round++) {
    const context = await model.createContext({
        contextSize: contexts.at(-1) + SETTLING_STEPS + steps + CHUNK,
        batchSize: CHUNK,
        sequences: 1,
        threads: Number(options.threads),
        flashAttention: true,
    });
    // The binding's own object, for batches without the queue.
    lines.push(...await measure(context._ctx, round));
    await context.dispose();
}

console.log(`llama.cpp, ${options.shape}, Q4_0, F16 cache, flash attention, ${options.threads} threads`);
console.log("context   prefill/s  to here/s  decode ms  p10-p90");
for (const length of [0, ...contexts]) {
    const here = lines.filter((line) => line.context === length);
    const of = (name) => here[0][name] === undefined ? "-" : median(here.map((line) => line[name])).toFixed(1);
    console.log([
        String(length).padStart(7),
        of("prefillMarginal").padStart(11),
        of("prefillTotal").padStart(10),
        of("decodeMs").padStart(10),
        ` ${of("decodeMsLow")}-${of("decodeMsHigh")}`,
    ].join(" "));
}
if (options.json) {
    lines.forEach((line) => appendFileSync(options.json, JSON.stringify(line) + "\n"));
}
process.exit(0);

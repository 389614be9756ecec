// The unmodified CUDA engine of llama.cpp, as node-llama-cpp ships it: several user sessions at once, by continuous batching.
// Steps are asked of the package's native context (_ctx): its own evaluator takes 0.7 ms of JavaScript between two steps of a
// session, in which the device has nothing to do, where this takes 0.1.
import {getLlama} from "node-llama-cpp";
import {Batch} from "./batch.mjs";
import {Pool} from "./pool.mjs";

export async function loadEngine({model: modelPath, context: contextSize, sequences, batch: batchSize}) {
    const llama = await getLlama({gpu: "cuda", build: "never", logLevel: "error"});
    const model = await llama.loadModel({modelPath, gpuLayers: "max"});
    const size = Math.max(batchSize, sequences);
    const context = await model.createContext({contextSize, sequences, batchSize: size, threads: 1});   // the rest is the GPU's
    const native = context._ctx;
    const samplers = Array.from({length: sequences}, () => {
        const sampler = new llama._bindings.AddonSampler(model._model);
        sampler.applyConfig({temperature: 0});
        return sampler;
    });
    const batch = new Batch({
        async compute(rows) {
            native.initBatch(rows.reduce((sum, row) => sum + row.tokens.length, 0));
            const indexes = rows.map(({place, at, tokens, last}) =>
                native.addToBatch(place, at, Uint32Array.from(tokens), Uint32Array.from(last ? [tokens.length - 1] : []))[0]);
            const decoded = native.decodeBatch();
            // Asked for at once: Node's pool has one thread (server.mjs), and does this after that without waking us between.
            const tokens = rows.map(({place, last}, i) => last ? native.sampleToken(indexes[i], samplers[place]) : undefined);
            await decoded;
            return Promise.all(tokens);
        },
        forget: (place) => native.disposeSequence(place),
        isEnd: (token) => model.isEogToken(token)
    }, size);
    const pool = new Pool([...samplers.keys()]);   // the lowest first: llama.cpp computes neighbours together
    return {
        get contextSize() { return context.contextSize; },
        vocabulary: model.fileInfo.metadata.tokenizer?.ggml?.tokens?.length ?? Infinity,
        get waiting() { return pool.waiting; },
        tokenize: (text) => model.tokenize(text),
        detokenize: (tokens) => model.detokenize(tokens),

        // Tokens, one by one: see Batch.
        async *generate(tokens, {most, ignoreEnd, signal}) {
            const place = await pool.take(signal);
            try {
                yield* batch.follow(tokens, {place, most, ignoreEnd, signal});
            } finally {
                pool.give(place);
            }
        }
    };
}

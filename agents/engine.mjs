// The unmodified CUDA engine of llama.cpp, as node-llama-cpp ships it: several user sessions at once, by continuous batching.
import {getLlama} from "node-llama-cpp";
import {Pool} from "./pool.mjs";
import {Step} from "./step.mjs";

export async function loadEngine({model: modelPath, context: contextSize, sequences, batch: batchSize}) {
    const llama = await getLlama({gpu: "cuda", build: "never", logLevel: "error"});
    const model = await llama.loadModel({modelPath, gpuLayers: "max"});
    const context = await model.createContext({
        contextSize, sequences, batchSize, batching: {dispatchSchedule: "nextCycle", itemPrioritizationStrategy: "maximumParallelism"}
    });
    const step = new Step();
    // llama.cpp computes sequences together whose numbers follow upon each other, so the lowest are used first, in order.
    const pool = new Pool(Array.from({length: sequences}, (_, number) => ({number, sequence: context.getSequence()})));
    return {
        contextSize: context.contextSize,
        vocabulary: model.fileInfo.metadata.tokenizer?.ggml?.tokens?.length ?? Infinity,
        get waiting() { return pool.waiting; },
        tokenize: (text) => model.tokenize(text),
        detokenize: (tokens) => model.detokenize(tokens),

        // Tokens, one by one, until the model ends its text (or for ever), or the signal says that nobody listens any more.
        async *generate(tokens, {ignoreEnd, signal}) {
            const place = await pool.take(signal), {sequence} = place;
            let hadFirst = false;
            step.begin();
            try {
                for await (const token of sequence.evaluate(tokens, {temperature: 0, yieldEogToken: ignoreEnd})) {
                    if (signal.aborted) return;
                    if (!hadFirst) step.first();
                    hadFirst = true;
                    yield token;
                    await step.together(place.number);
                }
            } finally {
                step.end(hadFirst);
                await sequence.clearHistory();   // so that the next prompt is computed whole
                pool.give(place);
            }
        }
    };
}

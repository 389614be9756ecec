// The unmodified CUDA engine of llama.cpp, as npm ships it: several user sessions at once, by continuous batching (batch.h).
// Its steps are computed in a thread of their own (engine.h), so that the device does not wait for what a server does.
import {createRequire} from "node:module";
import path from "node:path";
import {getBinsDir} from "@node-llama-cpp/linux-x64-cuda";
import {Pool} from "./pool.mjs";

const NONE = -1, FAILED = -2;   // in place of a token

// The tokens of a session, as the engine says them.
class Session {
    #said = [];
    #wake = () => {};
    #end;
    over = new Promise((end) => { this.#end = end; });   // and its place is free

    hear(token, over) {
        this.#said.push({token, over});
        if (over) this.#end();
        this.#wake();
    }

    async *tokens(signal) {
        signal?.addEventListener("abort", () => this.#wake(), {once: true});
        while (!signal?.aborted) {
            const said = this.#said.shift();
            if (!said) {
                await new Promise((wake) => { this.#wake = wake; });
                continue;
            }
            if (said.token === FAILED) throw new Error("llama.cpp could not compute the step");
            if (said.token !== NONE) yield said.token;
            if (said.over) return;
        }
    }
}

export async function loadEngine({model, context, sequences, batch}) {
    const engine = createRequire(import.meta.url)("./engine.node");
    const pool = new Pool([...Array(sequences).keys()]);   // the lowest first: llama.cpp computes neighbours together
    const sessions = [];                                   // by their places
    const loaded = engine.load(path.join(getBinsDir().binsDir, "linux-x64-cuda"), model, context, sequences, Math.max(batch, sequences),
        (place, token, over) => sessions[place].hear(token, over));
    return {
        contextSize: loaded.context,
        vocabulary: loaded.vocabulary,
        get waiting() { return pool.waiting; },
        tokenize: engine.tokenize,
        detokenize: engine.detokenize,

        // The tokens that follow a prompt, one by one: most of them at most, until the model ends its text (or for ever), or the
        // signal says that nobody listens any more.
        async *generate(prompt, {most, ignoreEnd, signal}) {
            const place = await pool.take(signal), session = sessions[place] = new Session();
            engine.follow(place, prompt, most, ignoreEnd);
            try {
                yield* session.tokens(signal);
            } finally {
                engine.leave(place);
                await session.over;
                pool.give(place);
            }
        }
    };
}

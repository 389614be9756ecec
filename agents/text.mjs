// From tokens to the text that may go out: whole characters, and nothing of a stop sequence.
export class Text {
    #tokens = [];
    #held = "";
    stopped = false;

    constructor(detokenize, stops) {
        this.detokenize = detokenize;
        this.stops = stops;
    }

    // What may go out now that this token has come; "" while more must be seen first.
    push(token) {
        this.#tokens.push(token);
        const text = this.detokenize(this.#tokens);
        // The first bytes of a character are a token of their own in some vocabularies; no character has more than four.
        if (text.endsWith("\uFFFD") && this.#tokens.length < 4) return "";
        this.#tokens = [];
        return this.#cut(text);
    }

    // What was held back and turned out to be no stop sequence.
    end() {
        if (this.stopped) return "";
        const rest = this.#tokens.length ? this.#cut(this.detokenize(this.#tokens)) : "";
        const held = this.#held;
        this.#held = "";
        return rest + (this.stopped ? "" : held);
    }

    #cut(text) {
        const all = this.#held + text;
        const at = Math.min(...this.stops.map((stop) => all.indexOf(stop)).filter((i) => i >= 0));
        if (at !== Infinity) {
            this.stopped = true;
            this.#held = "";
            return all.slice(0, at);
        }
        let keep = 0;   // the longest end that a stop sequence begins with
        for (const stop of this.stops)
            for (let n = Math.min(stop.length - 1, all.length); n > keep; n--)
                if (stop.startsWith(all.slice(-n))) keep = n;
        this.#held = keep ? all.slice(-keep) : "";
        return all.slice(0, all.length - keep);
    }
}

// Keeps the sessions of an engine in step. The engine begins its next step with those that have asked for it when the last
// one ends, and each session asks when it has its token. So the first to come back would go without the others, and they
// would take turns for ever, a step for each. Here they wait for each other: for less than a step, and for none once they
// are together. Nobody waits while a prompt is computed: that may come with no token for a long time.
export class Step {
    #prompts = 0;
    #sessions = 0;   // that have had their first token
    #waiting = [];

    begin() { this.#prompts++; this.#look(); }
    first() { this.#prompts--; this.#sessions++; }
    end(hadFirst) {
        if (hadFirst) this.#sessions--;
        else this.#prompts--;
        this.#look();
    }

    // Until the others have their tokens, too. They go on in the order of their ranks.
    together(rank) {
        return new Promise((resolve) => {
            this.#waiting.push({rank, resolve});
            this.#look();
        });
    }

    // Not at once: the one who came last does not wait yet, and would be the last to go on.
    #look() { queueMicrotask(() => this.#release()); }

    #release() {
        if (this.#prompts || this.#waiting.length >= this.#sessions)
            for (const one of this.#waiting.splice(0).sort((a, b) => a.rank - b.rank)) one.resolve();
    }
}

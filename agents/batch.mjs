// Continuous batching: the sessions of an engine, computed together step by step. A step takes the next token of each
// session that is past its prompt, and is filled up with prompts, the oldest first. While there is a prompt, each second
// step is that alone: first tokens come sooner, and those that wait are computed together afterwards.
export class Batch {
    #engine;
    #size;
    #sessions = [];   // in the order in which they came
    #runs = false;
    #alone = false;   // the last step was of prompts only
    #later;

    // engine: compute(rows) gives a promise of the token that follows each row that is a session's last, forget(place) lets
    // a place be used anew, isEnd(token). Neither is called while a step is computed. size: tokens in a step; one for each place
    // at least. later(call): when the engine has had time to begin.
    constructor(engine, size, later = (call) => setTimeout(call, 1)) {
        this.#engine = engine;
        this.#size = size;
        this.#later = later;
    }

    // The tokens that follow a prompt, most of them at most, one by one, until the model ends its text (or for ever), or the
    // signal says that nobody listens any more. When it returns its place is free.
    async *follow(prompt, {place, most, ignoreEnd, signal}) {
        const session = new Session(prompt, {place, most, ignoreEnd, signal});
        this.#sessions.push(session);
        if (!this.#runs) this.#run();
        try {
            yield* session.tokens();
        } finally {
            session.over = true;
            await session.left;
        }
    }

    // The next step begins before the tokens of the last go out, so the device does not wait for their text: we sleep first, for
    // on a machine with few cores the engine's thread may be waiting for ours.
    async #run() {
        this.#runs = true;
        for (let step = this.#begin(); step;) {
            const {rows, answer} = step;
            try {
                const tokens = await answer;
                rows.forEach((row, i) => row.session.advance(row.tokens.length, tokens[i], this.#engine.isEnd));
            } catch (error) {
                for (const {session} of rows) session.fail(error);
            }
            step = this.#begin();
            const tell = () => { for (const {session} of rows) session.tell(); };
            if (step) this.#later(tell);
            else tell();
        }
        this.#runs = false;
    }

    #begin() {
        for (const session of this.#sessions.filter((one) => one.ended)) {
            this.#engine.forget(session.place);
            session.leave();
        }
        this.#sessions = this.#sessions.filter((one) => !one.ended);
        const rows = this.#rows();
        return rows.length ? {rows, answer: this.#engine.compute(rows)} : undefined;
    }

    // llama.cpp computes sequences together whose numbers follow upon each other.
    #rows() {
        const prompts = this.#sessions.filter((one) => one.inPrompt), others = this.#sessions.filter((one) => !one.inPrompt);
        this.#alone = !this.#alone && prompts.length > 0;
        let room = this.#size;
        const rows = [];
        for (const session of this.#alone ? prompts : [...others, ...prompts]) {
            const row = session.row(room);
            room -= row.tokens.length;
            if (row.tokens.length) rows.push(row);
        }
        return rows.sort((a, b) => a.place - b.place);
    }
}

class Session {
    at = 0;          // tokens computed
    over = false;    // no more are to be computed
    #todo;
    #most;
    #ignoreEnd;
    #signal;
    #said = [];      // and not taken yet
    #error;
    #wake = () => {};
    #left;

    constructor(prompt, {place, most, ignoreEnd, signal}) {
        this.#todo = prompt;
        this.place = place;
        this.#most = most;
        this.#ignoreEnd = ignoreEnd;
        this.#signal = signal;
        this.inPrompt = true;
        this.left = new Promise((left) => { this.#left = left; });
    }

    get ended() { return this.over || this.#signal?.aborted; }

    // What is computed of it next: up to so many tokens. last: with the one that a token follows upon.
    row(room) {
        const tokens = this.#todo.slice(0, room);
        return {session: this, place: this.place, at: this.at, tokens, last: tokens.length === this.#todo.length};
    }

    // So many tokens are computed, and token follows, if that was the last.
    advance(computed, token, isEnd) {
        this.at += computed;
        this.#todo = this.#todo.slice(computed);
        if (this.#todo.length) return;
        this.inPrompt = false;
        this.#todo = [token];
        const isEndOfText = !this.#ignoreEnd && isEnd(token);
        if (!isEndOfText) this.#said.push(token);
        this.over ||= isEndOfText || --this.#most === 0;
    }

    fail(error) {
        this.#error = error;
        this.over = true;
    }

    // Its place is free.
    leave() {
        this.#left();
        this.tell();
    }

    tell() { this.#wake(); }

    async *tokens() {
        for (;;) {
            while (this.#said.length) {
                if (this.#signal?.aborted) return;
                yield this.#said.shift();
            }
            if (this.#error) throw this.#error;
            if (this.ended) return;
            await new Promise((wake) => { this.#wake = wake; });
        }
    }
}

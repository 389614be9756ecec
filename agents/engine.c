#define _GNU_SOURCE
#include "engine.h"
#include <ggml-backend.h>
#include <llama.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

// How long what was said in a step waits for the next to begin: on a machine with few cores whoever hears it
// would be woken in our place.
#define LATER_NS 1000000
#define STEP_PATIENCE_S 2 // for the last step, when the server is to end

static struct {
        struct llama_context *context;
        const struct llama_vocab *vocab;
        struct llama_batch step;
        int fd;
        pthread_t thread;
        pthread_mutex_t mutex; // of what follows
        pthread_cond_t wanted;
        bool stops;
        struct batch batch;
        struct batch_said *said; // room for a token of each of the context's cells: for all that can be said
        int n_said;              // and has not been heard
        bool is_set;             // the timer, since it was heard last
} engine = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wanted = PTHREAD_COND_INITIALIZER};

static void forget(int place)
{
        llama_memory_seq_rm(llama_get_memory(engine.context), place, -1, -1);
}

static void say(struct batch_said said)
{
        engine.said[engine.n_said++] = said;
        if (said.over)
                forget(said.place);
}

// Whoever hears it is woken now, or later.
static void tell(bool later)
{
        struct itimerspec when = {.it_value.tv_nsec = later ? LATER_NS : 1};

        if (engine.n_said && !(later && engine.is_set))
                timerfd_settime(engine.fd, 0, &when, NULL);
        engine.is_set = engine.n_said > 0;
}

// The likeliest token after the one at `i` of the step; waits for the step.
static int32_t likeliest(int32_t i)
{
        const float *logits = llama_get_logits_ith(engine.context, i);
        int32_t best = 0;

        for (int32_t token = 1, n = engine_vocabulary(); token < n; token++)
                if (logits[token] > logits[best])
                        best = token;
        return best;
}

// Computes rows, and of each that is its session's last the token that follows.
static bool compute(const struct batch_row *rows, int n, int32_t *follows)
{
        struct llama_batch *step = &engine.step;
        int32_t ends[BATCH_PLACES_MAX];

        step->n_tokens = 0;
        for (int i = 0; i < n; i++) {
                for (int32_t j = 0; j < rows[i].n; j++) {
                        int32_t at = step->n_tokens++;

                        step->token[at] = rows[i].tokens[j];
                        step->pos[at] = rows[i].at + j;
                        step->n_seq_id[at] = 1;
                        step->seq_id[at][0] = rows[i].place;
                        step->logits[at] = 0;
                }
                ends[i] = step->n_tokens - 1;
                step->logits[ends[i]] = rows[i].last;
        }
        if (llama_decode(engine.context, *step))
                return false;
        for (int i = 0; i < n; i++)
                follows[i] = rows[i].last ? likeliest(ends[i]) : BATCH_NONE;
        return true;
}

static void advance(const struct batch_row *rows, int n, const int32_t *follows)
{
        for (int i = 0; i < n; i++) {
                bool is_end = rows[i].last && llama_vocab_is_eog(engine.vocab, follows[i]);
                struct batch_said said;

                if (batch_advance(&engine.batch, &rows[i], follows[i], is_end, &said))
                        say(said);
        }
}

static void fail(const struct batch_row *rows, int n)
{
        for (int i = 0; i < n; i++) {
                batch_end(&engine.batch, rows[i].place);
                say((struct batch_said){.place = rows[i].place, .token = ENGINE_FAILED, .over = true});
        }
}

static void *compute_steps(void *unused)
{
        struct batch_row rows[BATCH_PLACES_MAX];
        int32_t follows[BATCH_PLACES_MAX];

        (void)unused;
        pthread_setname_np(pthread_self(), "engine");
        pthread_mutex_lock(&engine.mutex);
        while (!engine.stops) {
                for (int place; (place = batch_left(&engine.batch)) != BATCH_NONE;)
                        say((struct batch_said){.place = place, .token = BATCH_NONE, .over = true});
                int n = batch_step(&engine.batch, rows);

                tell(n > 0);
                if (!n) {
                        pthread_cond_wait(&engine.wanted, &engine.mutex);
                        continue;
                }
                pthread_mutex_unlock(&engine.mutex);
                bool is_computed = compute(rows, n, follows);

                pthread_mutex_lock(&engine.mutex);
                if (is_computed)
                        advance(rows, n, follows);
                else
                        fail(rows, n);
        }
        pthread_mutex_unlock(&engine.mutex);
        return NULL;
}

static void log_errors(enum ggml_log_level level, const char *text, void *unused)
{
        (void)unused;
        if (level == GGML_LOG_LEVEL_ERROR)
                fputs(text, stderr);
}

const char *engine_load(const struct engine_wish *wish)
{
        struct llama_model_params model_params = llama_model_default_params();
        struct llama_context_params params = llama_context_default_params();

        if (wish->sequences > BATCH_PLACES_MAX)
                return "256 sequences at most are computed together";
        llama_log_set(log_errors, NULL);
        ggml_backend_load_all_from_path(wish->libraries);
        if (!llama_supports_gpu_offload())
                return "no CUDA device is found";
        model_params.n_gpu_layers = -1;
        struct llama_model *model = llama_model_load_from_file(wish->model, model_params);

        if (!model)
                return "the model cannot be loaded";
        params.n_seq_max = (uint32_t)wish->sequences;
        params.n_ctx = (uint32_t)(wish->context * wish->sequences);
        params.n_batch = params.n_ubatch = (uint32_t)wish->batch_size;
        params.n_threads = params.n_threads_batch = 1; // the rest is the GPU's
        params.no_perf = true;
        params.kv_unified = false; // a sequence has its own cells: it cannot say more than those are
        engine.context = llama_init_from_model(model, params);
        if (!engine.context)
                return "there is no room for the model's context";
        engine.vocab = llama_model_get_vocab(model);
        engine.step = llama_batch_init(wish->batch_size, 0, 1);
        engine.batch.size = wish->batch_size;
        engine.said = calloc(llama_n_ctx(engine.context), sizeof *engine.said);
        engine.fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
        if (!engine.said || engine.fd < 0 || pthread_create(&engine.thread, NULL, compute_steps, NULL))
                return "out of memory, files or threads";
        return NULL;
}

void engine_stop(void)
{
        struct timespec until;

        pthread_mutex_lock(&engine.mutex);
        engine.stops = true;
        pthread_cond_signal(&engine.wanted);
        pthread_mutex_unlock(&engine.mutex);
        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += STEP_PATIENCE_S;
        if (pthread_clockjoin_np(engine.thread, NULL, CLOCK_MONOTONIC, &until)) {
                fputs("server: ended in the middle of a step, for it does not end\n", stderr);
                _exit(1); // whatever else would be cleared away is in use
        }
}

int32_t engine_context(void)
{
        return (int32_t)llama_n_ctx_seq(engine.context);
}

int32_t engine_vocabulary(void)
{
        return llama_vocab_n_tokens(engine.vocab);
}

void engine_follow(int place, int32_t *prompt, int32_t length, int32_t most, bool ignores_end)
{
        pthread_mutex_lock(&engine.mutex);
        batch_follow(&engine.batch, place, prompt, length, most, ignores_end);
        pthread_cond_signal(&engine.wanted);
        pthread_mutex_unlock(&engine.mutex);
}

void engine_leave(int place)
{
        pthread_mutex_lock(&engine.mutex);
        batch_leave(&engine.batch, place);
        pthread_cond_signal(&engine.wanted);
        pthread_mutex_unlock(&engine.mutex);
}

int engine_fd(void)
{
        return engine.fd;
}

int engine_hear(struct batch_said *said, int room)
{
        uint64_t expired;

        if (read(engine.fd, &expired, sizeof expired) < 0)
                return 0; // not yet
        pthread_mutex_lock(&engine.mutex);
        int n = engine.n_said < room ? engine.n_said : room;

        memcpy(said, engine.said, (size_t)n * sizeof *said);
        engine.n_said -= n;
        memmove(engine.said, engine.said + n, (size_t)engine.n_said * sizeof *said);
        engine.is_set = false;
        tell(false); // the rest
        pthread_mutex_unlock(&engine.mutex);
        return n;
}

int32_t engine_tokenize(const char *text, int32_t bytes, int32_t **tokens)
{
        int32_t room = bytes + 8, n; // a guess: a space is three tokens to a vocabulary of bytes

        *tokens = malloc((size_t)room * sizeof **tokens);
        n = *tokens ? llama_tokenize(engine.vocab, text, bytes, *tokens, room, false, false) : -1;
        if (n >= 0 || !*tokens)
                return n;
        free(*tokens);
        *tokens = malloc((size_t)-n * sizeof **tokens); // so many they are
        return *tokens ? llama_tokenize(engine.vocab, text, bytes, *tokens, -n, false, false) : -1;
}

int32_t engine_detokenize(const int32_t *tokens, int32_t n, char *text, int32_t room)
{
        return llama_detokenize(engine.vocab, tokens, n, text, room, false, false);
}

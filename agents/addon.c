// The engine for Node.js: {load, follow, leave, tokenize, detokenize}. Compiled by script/fetch against what
// npm ships.
#include "engine.h"
#include <node_api.h>
#include <stdlib.h>
#include <uv.h>

enum { MAX_ARGUMENTS = 6, PATH_BYTES = 4096, TEXT_BYTES = 4096, SAID = 64 };

static struct {
        napi_env env;
        napi_ref hear;
        napi_async_context async;
        uv_poll_t poll;
} listener;

static napi_value fail(napi_env env, const char *why)
{
        napi_throw_error(env, NULL, why);
        return NULL;
}

static void arguments(napi_env env, napi_callback_info info, napi_value *values)
{
        size_t n = MAX_ARGUMENTS;

        napi_get_cb_info(env, info, &n, values, NULL, NULL);
}

static int32_t int_of(napi_env env, napi_value value)
{
        int32_t n = 0;

        napi_get_value_int32(env, value, &n);
        return n;
}

static napi_value of_int(napi_env env, int32_t n)
{
        napi_value value;

        napi_create_int32(env, n, &value);
        return value;
}

// A list of numbers, the caller's to free; NULL without memory.
static int32_t *ints_of(napi_env env, napi_value list, uint32_t *n)
{
        napi_get_array_length(env, list, n);
        int32_t *ints = malloc((*n + 1) * sizeof *ints);

        for (uint32_t i = 0; ints && i < *n; i++) {
                napi_value one;

                napi_get_element(env, list, i, &one);
                ints[i] = int_of(env, one);
        }
        return ints;
}

// Calls hear(place, token, over) for each that has been said.
static void on_said(uv_poll_t *poll, int status, int events)
{
        napi_env env = listener.env;
        napi_handle_scope scope;
        napi_value hear, global;
        struct batch_said said[SAID];
        int n = engine_hear(said, SAID);

        (void)poll, (void)status, (void)events;
        napi_open_handle_scope(env, &scope);
        napi_get_reference_value(env, listener.hear, &hear);
        napi_get_global(env, &global);
        for (int i = 0; i < n; i++) {
                napi_value words[] = {of_int(env, said[i].place), of_int(env, said[i].token), NULL};

                napi_get_boolean(env, said[i].over, &words[2]);
                if (napi_make_callback(env, listener.async, global, hear, 3, words, NULL) ==
                    napi_pending_exception) {
                        napi_value error;

                        napi_get_and_clear_last_exception(env, &error);
                        napi_fatal_exception(env, error); // as if it were thrown by a callback of Node's
                }
        }
        napi_close_handle_scope(env, scope);
}

static void hear_by(napi_env env, napi_value hear)
{
        uv_loop_t *loop;
        napi_value name;

        listener.env = env;
        napi_create_reference(env, hear, 1, &listener.hear);
        napi_create_string_utf8(env, "engine", NAPI_AUTO_LENGTH, &name);
        napi_async_init(env, NULL, name, &listener.async);
        napi_get_uv_event_loop(env, &loop);
        uv_poll_init(loop, &listener.poll, engine_fd());
        uv_poll_start(&listener.poll, UV_READABLE, on_said);
}

// load(libraries, model, context, sequences, batch size, hear): {context, vocabulary}. See engine.h.
static napi_value load(napi_env env, napi_callback_info info)
{
        napi_value values[MAX_ARGUMENTS], loaded;
        char libraries[PATH_BYTES], model[PATH_BYTES];

        arguments(env, info, values);
        napi_get_value_string_utf8(env, values[0], libraries, sizeof libraries, NULL);
        napi_get_value_string_utf8(env, values[1], model, sizeof model, NULL);
        const char *error = engine_load(&(struct engine_wish){
                .libraries = libraries,
                .model = model,
                .context = int_of(env, values[2]),
                .sequences = int_of(env, values[3]),
                .batch_size = int_of(env, values[4]),
        });

        if (error)
                return fail(env, error);
        atexit(engine_stop); // before the engine's own destructors
        hear_by(env, values[5]);
        napi_create_object(env, &loaded);
        napi_set_named_property(env, loaded, "context", of_int(env, engine_context()));
        napi_set_named_property(env, loaded, "vocabulary", of_int(env, engine_vocabulary()));
        return loaded;
}

// follow(place, prompt, most, whether the model's end is ignored)
static napi_value follow(napi_env env, napi_callback_info info)
{
        napi_value values[MAX_ARGUMENTS];
        uint32_t length = 0;
        bool ignores_end = false;

        arguments(env, info, values);
        napi_get_value_bool(env, values[3], &ignores_end);
        int32_t *prompt = ints_of(env, values[1], &length);

        if (!prompt)
                return fail(env, "out of memory");
        engine_follow(int_of(env, values[0]), prompt, (int32_t)length, int_of(env, values[2]), ignores_end);
        return NULL;
}

// leave(place)
static napi_value leave(napi_env env, napi_callback_info info)
{
        napi_value values[MAX_ARGUMENTS];

        arguments(env, info, values);
        engine_leave(int_of(env, values[0]));
        return NULL;
}

// tokenize(text): a list
static napi_value tokenize(napi_env env, napi_callback_info info)
{
        napi_value values[MAX_ARGUMENTS], list;
        size_t bytes = 0;

        arguments(env, info, values);
        napi_get_value_string_utf8(env, values[0], NULL, 0, &bytes);
        char *text = malloc(bytes + 1);
        int32_t *tokens = NULL;
        int32_t n = -1;

        if (text) {
                napi_get_value_string_utf8(env, values[0], text, bytes + 1, NULL);
                n = engine_tokenize(text, (int32_t)bytes, &tokens);
        }
        napi_create_array(env, &list);
        for (int32_t i = 0; i < n; i++)
                napi_set_element(env, list, (uint32_t)i, of_int(env, tokens[i]));
        free(tokens);
        free(text);
        return n < 0 ? fail(env, "out of memory") : list;
}

// detokenize(list): a text; what is no whole character becomes U+FFFD.
static napi_value detokenize(napi_env env, napi_callback_info info)
{
        napi_value values[MAX_ARGUMENTS], answer;
        char text[TEXT_BYTES];
        uint32_t n = 0;

        arguments(env, info, values);
        int32_t *tokens = ints_of(env, values[0], &n);
        int32_t bytes = tokens ? engine_detokenize(tokens, (int32_t)n, text, sizeof text) : -1;

        free(tokens);
        if (bytes < 0)
                return fail(env, "these tokens have no text, or one too long");
        napi_create_string_utf8(env, text, (size_t)bytes, &answer);
        return answer;
}

NAPI_MODULE_INIT()
{
        static const struct {
                const char *name;
                napi_callback call;
        } calls[] = {
                {"load", load},         {"follow", follow},         {"leave", leave},
                {"tokenize", tokenize}, {"detokenize", detokenize},
        };

        for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
                napi_value call;

                napi_create_function(env, calls[i].name, NAPI_AUTO_LENGTH, calls[i].call, NULL, &call);
                napi_set_named_property(env, exports, calls[i].name, call);
        }
        return exports;
}

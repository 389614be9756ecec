#include "cli/load_http.h"
#include <curl/curl.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/random.h"
#include "base/time.h"

// No text of a token looks like that: its quotes would be escaped.
static const char usage_mark[] = "\"usage\":{";

uint32_t load_events_feed(struct load_events *e, const char *data, uint64_t size)
{
        uint32_t tokens = 0;

        for (uint64_t i = 0; i < size; i++) {
                char c = data[i];

                if (c == '\n') {
                        tokens += e->size > 6 && !memcmp(e->line, "data: {", 7) && !e->is_closing;
                        *e = (struct load_events){0};
                        continue;
                }
                if (e->size < sizeof e->line)
                        e->line[e->size] = c;
                e->size++;
                if (c == ' ' && e->match)
                        continue;
                e->match = c == usage_mark[e->match] ? e->match + 1 : c == usage_mark[0];
                if (e->match == sizeof usage_mark - 1)
                        e->is_closing = 1, e->match = 0;
        }
        return tokens;
}

struct call {
        CURL *curl;
        char *body;
        struct load_run *run;
        struct load_answer *answer;
        struct load_events events;
        uint64_t last_ns;
};

static volatile sig_atomic_t stopped;

static void stop(int signal)
{
        (void)signal;
        stopped = 1;
}

// Tokens that come together came at once: the gaps between them are none.
static size_t received(char *data, size_t one, size_t size, void *arg)
{
        struct call *call = arg;
        struct load_answer *a = call->answer;
        uint64_t now = takt_clock_now();
        uint32_t tokens = load_events_feed(&call->events, data, size * one);

        for (uint32_t i = 0; i < tokens; i++, call->last_ns = now) {
                if (a->tokens++ == 0)
                        a->first_ns = now;
                else
                        figure_add(&call->run->gaps, now - call->last_ns, 0);
        }
        return size * one;
}

// A prompt of so many tokens for a model whose tokens are bytes; no two alike, so that nothing is cached. The
// answer is as long as planned, whatever the model would say.
static char *body_of(const struct load_run *run, const struct load_request *request,
                     struct takt_random *random)
{
        json_t *body = json_pack("{s:b,s:b,s:i}", "stream", 1, "ignore_eos", 1, "max_tokens",
                                 (int)request->output_tokens);
        json_t *prompt = json_array();
        char *text;

        json_array_append_new(prompt, json_integer(1));
        for (uint32_t i = 1; i < request->prompt_tokens; i++)
                json_array_append_new(prompt, json_integer((json_int_t)takt_random_range(random, 35, 120)));
        json_object_set_new(body, "prompt", prompt);
        if (run->model)
                json_object_set_new(body, "model", json_string(run->model));
        text = json_dumps(body, JSON_COMPACT);
        json_decref(body);
        return text;
}

static void begin(CURLM *multi, struct call *call, struct curl_slist *headers, char *body)
{
        call->curl = curl_easy_init();
        call->body = body;
        call->answer->sent_ns = takt_clock_now();
        curl_easy_setopt(call->curl, CURLOPT_URL, call->run->url);
        curl_easy_setopt(call->curl, CURLOPT_PROXY, ""); // the server's latency is asked, not a proxy's
        curl_easy_setopt(call->curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(call->curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(call->curl, CURLOPT_TIMEOUT_MS, (long)(call->run->timeout_ns / TAKT_MS));
        curl_easy_setopt(call->curl, CURLOPT_WRITEFUNCTION, received);
        curl_easy_setopt(call->curl, CURLOPT_WRITEDATA, call);
        curl_easy_setopt(call->curl, CURLOPT_PRIVATE, call);
        curl_multi_add_handle(multi, call->curl);
}

static void end(CURLM *multi, struct call *call)
{
        curl_multi_remove_handle(multi, call->curl);
        curl_easy_cleanup(call->curl);
        free(call->body);
        call->curl = NULL;
}

static void finish(CURLM *multi, CURL *curl, CURLcode result)
{
        struct call *call;
        long status = 0;

        curl_easy_getinfo(curl, CURLINFO_PRIVATE, (char **)&call);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        call->answer->end_ns = takt_clock_now();
        call->answer->failed = result != CURLE_OK || status != 200 || !call->answer->tokens;
        if (call->answer->failed && !*call->run->why) {
                if (result != CURLE_OK)
                        snprintf(call->run->why, sizeof call->run->why, "%s", curl_easy_strerror(result));
                else if (status != 200)
                        snprintf(call->run->why, sizeof call->run->why, "HTTP status %ld", status);
                else
                        snprintf(call->run->why, sizeof call->run->why, "an answer without tokens");
        }
        end(multi, call);
}

// Sends what is due; returns how many are sent in all.
static int send_due(struct load_run *run, CURLM *multi, struct call *calls, struct curl_slist *headers,
                    struct takt_random *random, uint64_t start)
{
        uint64_t now = takt_clock_now();
        int i = run->n_sent;

        for (; i < run->n && start + run->plan[i].due_ns <= now; i++) {
                calls[i].run = run;
                calls[i].answer = &run->answers[i];
                run->answers[i].due_ns = start + run->plan[i].due_ns;
                begin(multi, &calls[i], headers, body_of(run, &run->plan[i], random));
        }
        return i;
}

static void loop(struct load_run *run, CURLM *multi, struct call *calls, struct curl_slist *headers)
{
        struct takt_random random;
        uint64_t start = takt_clock_now(), now, next;
        int done = 0, running, left;
        CURLMsg *message;

        takt_random_seed(&random, run->seed + 1);
        while (run->n && !stopped) {
                run->n_sent = send_due(run, multi, calls, headers, &random, start);
                curl_multi_perform(multi, &running);
                while ((message = curl_multi_info_read(multi, &left)))
                        if (message->msg == CURLMSG_DONE) {
                                finish(multi, message->easy_handle, message->data.result);
                                if (++done % 16 == 0 && run->show_progress)
                                        fprintf(stderr, "\r%d of %d requests", done, run->n);
                        }
                if (done == run->n)
                        break;
                now = takt_clock_now();
                next = run->n_sent < run->n ? start + run->plan[run->n_sent].due_ns : now + TAKT_S;
                curl_multi_poll(multi, NULL, 0, (int)(takt_time_since(next, now) / TAKT_MS), NULL);
        }
        if (run->show_progress)
                fprintf(stderr, "\r%d of %d requests\n", done, run->n);
}

void load_http_run(struct load_run *run)
{
        struct call *calls = calloc((size_t)run->n + 1, sizeof *calls);
        struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
        CURLM *multi = curl_multi_init();

        headers = curl_slist_append(headers, "Expect:"); // a long prompt is not announced first
        memset(run->answers, 0, sizeof *run->answers * (size_t)run->n);
        signal(SIGINT, stop);
        loop(run, multi, calls, headers);
        for (int i = 0; i < run->n_sent; i++)
                if (calls[i].curl)
                        end(multi, &calls[i]);
        curl_multi_cleanup(multi);
        curl_slist_free_all(headers);
        free(calls);
        run->stopped = stopped;
}

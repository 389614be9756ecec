#include "cli/load_http.h"
#include <curl/curl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/random.h"

static const char usage_mark[] = "\"usage\"";

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
                e->match = c == usage_mark[e->match] ? e->match + 1 : c == usage_mark[0];
                if (e->match == sizeof usage_mark - 1)
                        e->is_closing = 1, e->match = 0;
        }
        return tokens;
}

struct call {
        CURL *curl;
        char *body;
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

static size_t received(char *data, size_t one, size_t size, void *arg)
{
        struct call *call = arg;
        struct load_answer *a = call->answer;
        uint64_t now = takt_clock_now();
        uint32_t tokens = load_events_feed(&call->events, data, size * one);

        if (tokens && !a->first_ns)
                a->first_ns = call->last_ns = now;
        if (tokens && a->tokens) {
                a->gap_sum_ns += now - call->last_ns;
                if (now - call->last_ns > a->gap_max_ns)
                        a->gap_max_ns = now - call->last_ns;
                call->last_ns = now;
        }
        a->tokens += tokens;
        return size * one;
}

// A prompt of so many tokens for a model whose tokens are bytes; no two alike, so that nothing is cached.
static char *body_of(const struct load_request *request, struct takt_random *random)
{
        size_t room = 8 * (size_t)request->prompt_tokens + 128;
        char *body = malloc(room);
        size_t n = (size_t)snprintf(body, room, "{\"stream\":true,\"max_tokens\":%u,\"prompt\":[1",
                                    request->output_tokens);

        for (uint32_t i = 1; i < request->prompt_tokens; i++)
                n += (size_t)snprintf(body + n, room - n, ",%u",
                                      (unsigned)takt_random_range(random, 35, 120));
        snprintf(body + n, room - n, "]}");
        return body;
}

static void begin(CURLM *multi, struct call *call, const char *url, struct curl_slist *headers,
                  struct load_answer *answer, char *body)
{
        *call = (struct call){.curl = curl_easy_init(), .body = body, .answer = answer};
        answer->sent_ns = takt_clock_now();
        curl_easy_setopt(call->curl, CURLOPT_URL, url);
        curl_easy_setopt(call->curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(call->curl, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(call->curl, CURLOPT_WRITEFUNCTION, received);
        curl_easy_setopt(call->curl, CURLOPT_WRITEDATA, call);
        curl_easy_setopt(call->curl, CURLOPT_PRIVATE, call);
        curl_multi_add_handle(multi, call->curl);
}

static void finish(CURLM *multi, CURL *curl, CURLcode result)
{
        struct call *call;
        long status = 0;

        curl_easy_getinfo(curl, CURLINFO_PRIVATE, (char **)&call);
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        call->answer->end_ns = takt_clock_now();
        call->answer->failed = result != CURLE_OK || status != 200 || !call->answer->tokens;
        curl_multi_remove_handle(multi, curl);
        curl_easy_cleanup(curl);
        free(call->body);
        call->body = NULL;
}

int load_http_run(const char *url, const struct load_request *plan, int n, uint64_t seed,
                  struct load_answer *answers, int show_progress)
{
        struct call *calls = calloc((size_t)n + 1, sizeof *calls);
        struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
        struct takt_random random;
        CURLM *multi = curl_multi_init();
        uint64_t start;
        int sent = 0, done = 0, running, left;

        takt_random_seed(&random, seed + 1);
        memset(answers, 0, sizeof *answers * (size_t)n);
        signal(SIGINT, stop);
        start = takt_clock_now();
        while (done < n && !stopped) {
                uint64_t now = takt_clock_now(), next;
                CURLMsg *message;

                while (sent < n && start + plan[sent].due_ns <= now) {
                        answers[sent].due_ns = start + plan[sent].due_ns;
                        begin(multi, &calls[sent], url, headers, &answers[sent],
                              body_of(&plan[sent], &random));
                        sent++;
                }
                curl_multi_perform(multi, &running);
                while ((message = curl_multi_info_read(multi, &left)))
                        if (message->msg == CURLMSG_DONE) {
                                finish(multi, message->easy_handle, message->data.result);
                                done++;
                                if (show_progress && done % 16 == 0)
                                        fprintf(stderr, "\r%d of %d requests", done, n);
                        }
                now = takt_clock_now();
                next = sent < n ? start + plan[sent].due_ns : now + 1000000000;
                curl_multi_poll(multi, NULL, 0, next > now ? (int)((next - now) / 1000000) : 0, NULL);
        }
        if (show_progress)
                fprintf(stderr, "\r%d of %d requests\n", done, n);
        for (int i = 0; i < sent; i++)
                if (calls[i].body) {
                        curl_multi_remove_handle(multi, calls[i].curl);
                        curl_easy_cleanup(calls[i].curl);
                        free(calls[i].body);
                }
        curl_multi_cleanup(multi);
        curl_slist_free_all(headers);
        free(calls);
        return stopped ? -EINTR : 0;
}

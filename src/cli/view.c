#include "cli/view.h"
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static long long number(json_t *object, const char *key)
{
        return json_integer_value(json_object_get(object, key));
}

static const char *string(json_t *object, const char *key)
{
        const char *text = json_string_value(json_object_get(object, key));

        return text ? text : "?";
}

static int is_in_character(unsigned char c)
{
        return (c & 0xc0) == 0x80;
}

// Bytes of the control character there: C0, DEL, or C1 as UTF-8; 0: it is none.
static size_t control(const unsigned char *at)
{
        if (at[0] < 0x20 || at[0] == 0x7f)
                return 1;
        return at[0] == 0xc2 && at[1] >= 0x80 && at[1] < 0xa0 ? 2 : 0;
}

void view_name(const char *name, unsigned n, char *text, size_t size)
{
        const unsigned char *at = (const unsigned char *)name;
        size_t used = 0, bytes;
        unsigned columns = 0;

        for (; *at && (!n || columns < n) && used + 5 < size; columns++) {
                bytes = control(at);
                if (bytes) {
                        text[used++] = '?';
                        at += bytes;
                        continue;
                }
                do
                        text[used++] = (char)*at++;
                while (is_in_character(*at) && used + 1 < size);
        }
        for (; columns < n && used + 1 < size; columns++)
                text[used++] = ' ';
        text[used] = 0;
}

static __attribute__((format(printf, 2, 3))) void line(const struct view *view, const char *format, ...)
{
        char text[512];
        size_t end = 0;
        int columns = 0;
        va_list args;

        va_start(args, format);
        vsnprintf(text, sizeof text, format, args);
        va_end(args);
        for (; text[end]; end++) {
                columns += !is_in_character((unsigned char)text[end]);
                if (view->width && columns > view->width)
                        break;
        }
        fprintf(view->out, "%.*s%s", (int)end, text, view->line_end);
}

// What was added since `before`, or since the start.
static double since(json_t *now, json_t *before, const char *key)
{
        return (double)(number(now, key) - (before ? number(before, key) : 0));
}

static double percent(json_t *now, json_t *before, const char *key, double of)
{
        return of > 0 ? 100 * since(now, before, key) / of : 0;
}

// The same tenant in an earlier answer; NULL: it was not there.
static json_t *earlier(json_t *before, json_t *tenant)
{
        json_t *t;
        size_t i;

        json_array_foreach(json_object_get(before, "tenants"), i,
                           t) if (number(t, "tenant") == number(tenant, "tenant") &&
                                  number(t, "granted_ns") <= number(tenant, "granted_ns") &&
                                  !strcmp(string(t, "name"), string(tenant, "name"))) return t;
        return NULL;
}

static void print_device(const struct view *view, json_t *d, json_t *before)
{
        double elapsed = since(d, before, "elapsed_ns");

        line(view, "GPU %lld %s: granted %.1f %%, idle %.1f %%, switching %.2f %%, %.0f switches%s",
             number(d, "device"), string(d, "name"), percent(d, before, "granted_ns", elapsed),
             percent(d, before, "idle_ns", elapsed), percent(d, before, "switch_ns", elapsed),
             since(d, before, "switches"),
             json_is_true(json_object_get(d, "bypass")) ? "; BYPASS: first come, first served" : "");
}

static void print_tenant(const struct view *view, json_t *t, json_t *before, double elapsed)
{
        char name[80], memory[48], quota[24] = "-";

        view_name(string(t, "name"), 16, name, sizeof name);
        if (number(t, "memory_quota"))
                snprintf(quota, sizeof quota, "%lld", number(t, "memory_quota") >> 20);
        snprintf(memory, sizeof memory, "%lld/%s", number(t, "memory_used") >> 20, quota);
        line(view, "%s %-5s %5.1f%% %5.1f%% %7.2fms %7.2fms %8lld %13s %-8s %8lld %8lld", name,
             json_is_true(json_object_get(t, "holds"))   ? "holds"
             : json_is_true(json_object_get(t, "wants")) ? "waits"
                                                         : "idle",
             percent(t, before, "granted_ns", elapsed), percent(t, before, "busy_ns", elapsed),
             (double)number(t, "wait_p50_ns") / 1e6, (double)number(t, "wait_p99_ns") / 1e6,
             number(t, "requests"), memory, string(t, "class"), number(t, "steps"), number(t, "overruns"));
}

void view_print(const struct view *view, json_t *now, json_t *before)
{
        json_t *devices = json_object_get(now, "devices"), *old = json_object_get(before, "devices"), *d, *t;
        size_t i;

        if (number(now, "pid") != number(before, "pid"))
                before = old = NULL; // another daemon counts from nothing
        if (!json_array_size(devices))
                line(view, "no GPU was found on this machine");
        json_array_foreach(devices, i, d) print_device(view, d, json_array_get(old, i));
        line(view, "%-16s %-5s %6s %6s %9s %9s %8s %13s %-8s %8s %8s", "TENANT", "STATE", "HELD", "BUSY",
             "WAIT p50", "WAIT p99", "REQUESTS", "MEMORY MiB", "CLASS", "STEPS", "OVERRUNS");
        json_array_foreach(json_object_get(now, "tenants"), i, t)
        {
                size_t on = (size_t)number(t, "device");
                json_t *then = earlier(before, t);

                // A tenant that has just come is measured against the same time as the others.
                print_tenant(view, t, then,
                             since(json_array_get(devices, on), json_array_get(old, on), "elapsed_ns"));
        }
}

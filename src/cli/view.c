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

static long long at(json_t *array, size_t i)
{
        return json_integer_value(json_array_get(array, i));
}

// Of the waits that ended since `before`: the bound that at least permille/1000 of them did not exceed, in
// ns; 0: none ended. A tenant has a count for each bound, and one for what was longer.
static long long waited(json_t *now, json_t *before, json_t *bounds, int permille)
{
        json_t *counts = json_object_get(now, "waits"), *old = json_object_get(before, "waits");
        size_t n = json_array_size(counts), i;
        long long all = 0, seen = 0;

        for (i = 0; i < n; i++)
                all += at(counts, i) - at(old, i);
        if (all <= 0)
                return 0;
        for (i = 0; i < n; i++) {
                seen += at(counts, i) - at(old, i);
                if (seen * 1000 >= all * permille)
                        break;
        }
        return i < json_array_size(bounds) ? at(bounds, i) : number(now, "wait_max_ns");
}

static void wait_text(long long ns, char text[24])
{
        if (ns)
                snprintf(text, 24, "%.2fms", (double)ns / 1e6);
        else
                strcpy(text, "-");
}

static void print_tenant(const struct view *view, json_t *t, json_t *before, json_t *bounds, double elapsed)
{
        char name[80], memory[48], quota[24] = "-", p50[24], p99[24];

        view_name(string(t, "name"), 16, name, sizeof name);
        if (number(t, "memory_quota"))
                snprintf(quota, sizeof quota, "%lld", number(t, "memory_quota") >> 20);
        snprintf(memory, sizeof memory, "%lld/%s", number(t, "memory_used") >> 20, quota);
        wait_text(before ? waited(t, before, bounds, 500) : number(t, "wait_p50_ns"), p50);
        wait_text(before ? waited(t, before, bounds, 990) : number(t, "wait_p99_ns"), p99);
        line(view, "%s %-5s %5.1f%% %5.1f%% %9s %9s %8.0f %13s %-8s %8.0f %8.0f", name,
             json_is_true(json_object_get(t, "holds"))   ? "holds"
             : json_is_true(json_object_get(t, "wants")) ? "waits"
                                                         : "idle",
             percent(t, before, "granted_ns", elapsed), percent(t, before, "busy_ns", elapsed), p50, p99,
             since(t, before, "requests"), memory, string(t, "class"), since(t, before, "steps"),
             since(t, before, "overruns"));
}

void view_print(const struct view *view, json_t *now, json_t *before)
{
        json_t *devices = json_object_get(now, "devices"), *old = json_object_get(before, "devices");
        json_t *tenants = json_object_get(now, "tenants"), *bounds = json_object_get(now, "wait_bounds_ns");
        size_t n_devices = json_array_size(devices), n_tenants = json_array_size(tenants);
        size_t n_first = n_devices ? n_devices : 1, n_lines = n_first + 1 + n_tenants, n_seen, n_shown;

        if (view->height && n_lines > view->height)
                n_lines = view->height - 1; // and one that says how many do not fit
        n_seen = n_first < n_lines - 1 ? n_first : n_lines - 1;
        n_shown = n_lines - 1 - n_seen;
        if (number(now, "pid") != number(before, "pid"))
                before = old = NULL; // another daemon counts from nothing
        if (!n_devices)
                line(view, "no GPU was found on this machine");
        for (size_t i = 0; i < n_seen && n_devices; i++)
                print_device(view, json_array_get(devices, i), json_array_get(old, i));
        line(view, "%-16s %-5s %6s %6s %9s %9s %8s %13s %-8s %8s %8s", "TENANT", "STATE", "HELD", "BUSY",
             "WAIT p50", "WAIT p99", "REQUESTS", "MEMORY MiB", "CLASS", "STEPS", "OVERRUNS");
        for (size_t i = 0; i < n_shown; i++) {
                json_t *t = json_array_get(tenants, i);
                size_t on = (size_t)number(t, "device");

                // A tenant that has just come is measured against the same time as the others.
                print_tenant(view, t, earlier(before, t), bounds,
                             since(json_array_get(devices, on), json_array_get(old, on), "elapsed_ns"));
        }
        if (n_seen + n_shown < n_first + n_tenants)
                line(view, "%zu more do not fit", n_first + n_tenants - n_seen - n_shown);
}

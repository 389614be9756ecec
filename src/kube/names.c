#include "kube/names.h"
#include <string.h>

static const char inner[] = "abcdefghijklmnopqrstuvwxyz0123456789-";

// RFC 1123's label of n bytes, however many.
static int is_label(const char *text, size_t n)
{
        return n > 0 && text[0] != '-' && text[n - 1] != '-' && strspn(text, inner) >= n;
}

int names_is_label(const char *text)
{
        size_t n = strlen(text);

        return n <= 63 && is_label(text, n);
}

// A label of it may be as long as the whole.
int names_is_subdomain(const char *text)
{
        size_t n = strlen(text);

        if (n > 253)
                return 0;
        for (;; text += n + 1) {
                n = strcspn(text, ".");
                if (!is_label(text, n))
                        return 0;
                if (!text[n])
                        return 1;
        }
}

int names_is_uid(const char *text)
{
        size_t n = strlen(text);

        return n > 0 && n <= 36 && strspn(text, "0123456789abcdefABCDEF-") == n;
}

void names_make_plain(char *text)
{
        for (; *text; text++)
                if (*text < ' ' || *text > '~')
                        *text = '?';
}

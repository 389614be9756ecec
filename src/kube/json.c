#include "kube/json.h"
#include <errno.h>
#include "kube/limits.h"

// Each value is the first of something that was opened, or comes after a comma.
static int has_too_many_values(const char *text, size_t size)
{
        size_t n = 0;
        int in_string = 0;

        for (size_t i = 0; i < size && n <= KUBE_JSON_VALUES_MAX; i++) {
                if (text[i] == '"')
                        in_string = !in_string;
                else if (in_string)
                        i += text[i] == '\\';
                else
                        n += text[i] == ',' || text[i] == '[' || text[i] == '{';
        }
        return n > KUBE_JSON_VALUES_MAX;
}

int json_read(const char *text, size_t size, json_t **ret)
{
        *ret = NULL;
        if (has_too_many_values(text, size))
                return -EFBIG;
        *ret = json_loadb(text, size, 0, NULL);
        return *ret ? 0 : -EBADMSG;
}

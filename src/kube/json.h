// JSON of others: a text of some bytes can be a tree of fifty times as many.
#pragma once
#include <jansson.h>

// Parses it. Returns 0; -EBADMSG: it is no JSON; or -EFBIG: it has more than KUBE_JSON_VALUES_MAX values.
int json_read(const char *text, size_t size, json_t **ret);

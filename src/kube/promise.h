// A promise in words, one key and one value at a time: the keys of the configuration's `takt` and, with
// "takt.dev/" before them, of a pod's annotations.
#pragma once
#include <stddef.h>
#include "kube/limits.h"
#include "node/door.h"

// Sets what `key` names in the contract. Returns 0; -ENOENT: no such key; -EINVAL: not a value for it, and
// `why` names key and value.
int promise_set(struct core_contract *contract, const char *key, const char *value, char *why, size_t size);
// Some keys of a promise, to be laid over another.
struct promise_words {
        struct core_contract said;
        uint32_t keys; // bits of those that are set; 0: none
};

// As promise_set, in words.
int promise_say(struct promise_words *words, const char *key, const char *value, char *why, size_t size);
// Lays the words over a contract. Returns whether they name a class.
int promise_lay(const struct promise_words *words, struct core_contract *contract);
// Whether they name an objective.
int promise_has_objective(const struct promise_words *words);
// As people read it: "share 30 %, first token in 200 ms, ...".
void promise_text(const struct core_contract *contract, char *text, size_t size);

// What `key` is of, once all are set: an objective makes a contract of the deadline class unless `class` was
// named (has_class). memory_bytes: the device's; 0: any. Returns 0 or -EINVAL.
int promise_check(struct core_contract *contract, int has_class, uint64_t memory_bytes, char *why,
                  size_t size);

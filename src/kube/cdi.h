// What containers get, as devices of the Container Device Interface, for runtimes that know it.
//
// One file names all slots: they are the same for as long as the configuration is. Each claim has a file of
// its own. After the CDI specification 0.5.
#pragma once
#include <jansson.h>
#include "kube/recipe.h"

#define CDI_KIND "takt.dev/slot"

// "takt.dev/slot=NAME".
void cdi_name(const struct slot *slot, char *ret, size_t size);
// Writes the slots' file, whole or not at all; not while it is there as it was written. Returns 0 or a
// negative errno.
int cdi_write(const struct slots *slots, const struct injection *injection);

// A recipe as a device; with_quota: TAKT_MEMORY_QUOTA, too.
json_t *cdi_device(const char *name, const struct recipe *recipe, int with_quota);
// Writes FOLDER/NAME with these devices (a reference that it takes over), whole or not at all. The folder is
// made. Returns 0 or a negative errno.
int cdi_put(const char *folder, const char *name, const char *kind, json_t *devices);

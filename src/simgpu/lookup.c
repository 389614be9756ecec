// How programs find the driver's functions: by name, version and kind of default stream.
#include <string.h>
#include "simgpu/driver.h"
#include "simgpu/settings.h"

// CUdriverProcAddressQueryResult
enum { FOUND = 0, NAME_NOT_FOUND = 1, VERSION_TOO_LOW = 2 };

// The newest form that the asked version knows; the per-thread variant where one is asked for and exists.
API cuGetProcAddress_v2(const char *name, void **entry, int version, uint64_t flags, int *status)
{
        const struct symbol *best = NULL;
        int known = 0, answer;

        for (const struct symbol *s = symbols; s < symbols + n_symbols; s++) {
                if (strcmp(s->name, name) != 0)
                        continue;
                if (s->version > sim_driver_version())
                        continue; // the claimed driver has never heard of it
                known = 1;
                if (s->version > version || (s->flag == 2 && !(flags & 2)))
                        continue;
                if (!best || s->flag > best->flag || (s->flag == best->flag && s->version > best->version))
                        best = s;
        }
        answer = best ? FOUND : known ? VERSION_TOO_LOW : NAME_NOT_FOUND;
        if (status)
                *status = answer;
        if (entry)
                *entry = best ? (void *)best->entry : NULL;
        return best ? SUCCESS : NOT_FOUND;
}

API cuGetProcAddress(const char *name, void **entry, int version, uint64_t flags)
{
        return cuGetProcAddress_v2(name, entry, version, flags, NULL);
}

API cuGetExportTable(const void **table, const unsigned char *uuid)
{
        return tables_get(table, uuid);
}

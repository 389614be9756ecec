// The private tables that NVIDIA's own libraries ask for (cuGetExportTable), as far as they use them.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "simgpu/driver.h"

typedef intptr_t (*entry)(intptr_t, intptr_t, intptr_t, intptr_t);

static intptr_t zero(intptr_t a, intptr_t b, intptr_t c, intptr_t d)
{
        (void)a, (void)b, (void)c, (void)d;
        return 0;
}

static intptr_t primary_of_device(intptr_t ret, intptr_t device, intptr_t c, intptr_t d)
{
        (void)c, (void)d;
        *(void **)ret = context_primary((int)device);
        return *(void **)ret ? SUCCESS : INVALID_CONTEXT;
}

extern int cuModuleLoadData(void **, const void *);

static intptr_t module_from_cubin(intptr_t ret, intptr_t image, intptr_t c, intptr_t d)
{
        (void)c, (void)d;
        return cuModuleLoadData((void **)ret, (const void *)image);
}

static intptr_t current_context(intptr_t ret, intptr_t b, intptr_t c, intptr_t d)
{
        (void)b, (void)c, (void)d;
        *(void **)ret = context_current();
        return SUCCESS;
}

static intptr_t context_id(intptr_t context, intptr_t ret, intptr_t c, intptr_t d)
{
        struct context *from = context ? (struct context *)context : context_current();

        (void)c, (void)d;
        if (!from)
                return INVALID_CONTEXT;
        *(uint64_t *)ret = from->id;
        return SUCCESS;
}

static unsigned char buffer_1024[1024], buffer_14[16];

static intptr_t give_1024(intptr_t pointer, intptr_t size, intptr_t c, intptr_t d)
{
        (void)c, (void)d;
        *(void **)pointer = buffer_1024;
        *(size_t *)size = sizeof buffer_1024;
        return SUCCESS;
}

static intptr_t give_14(intptr_t pointer, intptr_t size, intptr_t c, intptr_t d)
{
        (void)c, (void)d;
        *(void **)pointer = buffer_14;
        *(size_t *)size = 14;
        return SUCCESS;
}

// Context-local storage: a list per context.
struct storage {
        struct storage *next;
        void *key, *value;
};

static pthread_mutex_t storage_lock = PTHREAD_MUTEX_INITIALIZER;

static intptr_t storage_delete(intptr_t context, intptr_t key, intptr_t c, intptr_t d)
{
        struct context *from = context ? (struct context *)context : context_current();
        struct storage **at, *old;

        (void)c, (void)d;
        if (!from)
                return INVALID_CONTEXT;
        pthread_mutex_lock(&storage_lock);
        for (at = &from->storage; *at; at = &(*at)->next)
                if ((*at)->key == (void *)key) {
                        old = *at;
                        *at = old->next;
                        free(old);
                        break;
                }
        pthread_mutex_unlock(&storage_lock);
        return SUCCESS;
}

static intptr_t storage_put(intptr_t context, intptr_t key, intptr_t value, intptr_t destructor)
{
        struct context *from = context ? (struct context *)context : context_current();
        struct storage *new = malloc(sizeof *new);

        (void)destructor;
        if (!from || !new)
                return free(new), INVALID_CONTEXT;
        storage_delete(context, key, 0, 0);
        pthread_mutex_lock(&storage_lock);
        *new = (struct storage){from->storage, (void *)key, (void *)value};
        from->storage = new;
        pthread_mutex_unlock(&storage_lock);
        return SUCCESS;
}

static intptr_t storage_get(intptr_t ret, intptr_t context, intptr_t key, intptr_t d)
{
        struct context *from = context ? (struct context *)context : context_current();
        intptr_t error = INVALID_HANDLE;

        (void)d;
        if (!from)
                return INVALID_CONTEXT;
        pthread_mutex_lock(&storage_lock);
        for (struct storage *s = from->storage; s; s = s->next)
                if (s->key == (void *)key) {
                        *(void **)ret = s->value;
                        error = SUCCESS;
                }
        pthread_mutex_unlock(&storage_lock);
        return error;
}

static intptr_t two_zeros(intptr_t device, intptr_t attribute, intptr_t c, intptr_t ret)
{
        (void)device, (void)attribute, (void)c;
        memset((void *)ret, 0, 16);
        return SUCCESS;
}

static intptr_t zero_byte(intptr_t ret, intptr_t b, intptr_t c, intptr_t d)
{
        (void)b, (void)c, (void)d;
        *(char *)ret = 0;
        return SUCCESS;
}

static intptr_t zero_word(intptr_t context, intptr_t ret, intptr_t c, intptr_t d)
{
        (void)context, (void)c, (void)d;
        *(uint32_t *)ret = 0;
        return SUCCESS;
}

static intptr_t integrity(intptr_t version, intptr_t seconds, intptr_t ret, intptr_t d)
{
        (void)d;
        return integrity_check((unsigned)version, (uint64_t)seconds, (uint64_t *)ret);
}

#define SIZE(n) ((entry)(intptr_t)(n))
#define Z zero

static const entry cudart_interface[13] = {
        SIZE(13 * 8), module_from_cubin, primary_of_device, Z, Z, Z, module_from_cubin, Z, Z, Z, Z, Z, Z};
static const entry tools_tls[4] = {SIZE(32), Z, current_context, Z};
static const entry context_ids[5] = {SIZE(40), Z, Z, Z, context_id};
static const entry callback_hooks[7] = {SIZE(56), Z, give_1024, Z, Z, Z, give_14};
static const entry context_storage[4] = {storage_put, storage_delete, storage_get, Z};
static const entry create_bypass[2] = {SIZE(16), Z};
static const entry heap_access[3] = {SIZE(24), Z, Z};
static const entry device_extended[26] = {SIZE(26 * 8), Z, Z, Z, Z, two_zeros, Z, Z, Z, Z, Z, Z, Z,
                                          zero_byte,    Z, Z, Z, Z, Z,         Z, Z, Z, Z, Z, Z, Z};
static const entry integrity_table[3] = {SIZE(24), integrity, Z};
static const entry context_checks[4] = {SIZE(32), Z, zero_word, Z};

const void *tables_interface(void)
{
        return cudart_interface;
}

const void *tables_integrity(void)
{
        return integrity_table;
}

static const struct {
        unsigned char uuid[17];
        const entry *table;
} tables[] = {
        {"\x6b\xd5\xfb\x6c\x5b\xf4\xe7\x4a\x89\x87\xd9\x39\x12\xfd\x9d\xf9", cudart_interface},
        {"\x42\xd8\x5a\x81\x23\xf6\xcb\x47\x82\x98\xf6\xe7\x8a\x3a\xec\xdc", tools_tls},
        {"\x21\x31\x8c\x60\x97\x14\x32\x48\x8c\xa6\x41\xff\x73\x24\xc8\xf2", context_ids},
        {"\xa0\x94\x79\x8c\x2e\x74\x2e\x74\x93\xf2\x08\x00\x20\x0c\x0a\x66", callback_hooks},
        {"\xc6\x93\x33\x6e\x11\x21\xdf\x11\xa8\xc3\x68\xf3\x55\xd8\x95\x93", context_storage},
        {"\x0c\xa5\x0b\x8c\x10\x04\x92\x9a\x89\xa7\xd0\xdf\x10\xe7\x72\x86", create_bypass},
        {"\x19\x5b\xcb\xf4\xd6\x7d\x02\x4a\xac\xc5\x1d\x29\xce\xa6\x31\xae", heap_access},
        {"\xb1\x05\x41\xe1\xf7\xc7\xc7\x4a\x9f\x64\xf2\x23\xbe\x99\xf1\xe2", device_extended},
        {"\xd4\x08\x20\x55\xbd\xe6\x70\x4b\x8d\x34\xba\x12\x3c\x66\xe1\xf2", integrity_table},
        {"\x26\x3e\x88\x60\x7c\xd2\x61\x43\x92\xf6\xbb\xd5\x00\x6d\xfa\x7e", context_checks},
};

int tables_get(const void **ret_table, const unsigned char uuid[16])
{
        for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
                if (!memcmp(tables[i].uuid, uuid, 16)) {
                        *ret_table = tables[i].table;
                        return SUCCESS;
                }
        return NOT_FOUND;
}

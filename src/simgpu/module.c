// Modules, libraries, kernels and functions: an image is never looked into; any name that is asked for is
// there.
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include "simgpu/driver.h"

#define GLOBAL_BYTES 65536

struct module {
        void *functions; // tree by name
        void *global;    // one piece of memory that stands for every variable
        pthread_mutex_t lock;
};

static int by_name(const void *a, const void *b)
{
        return strcmp(((const struct function *)a)->name, ((const struct function *)b)->name);
}

static int load(struct module **ret)
{
        *ret = calloc(1, sizeof **ret);
        if (!*ret)
                return OUT_OF_MEMORY;
        pthread_mutex_init(&(*ret)->lock, NULL);
        return SUCCESS;
}

static void free_function(void *arg)
{
        struct function *f = arg;

        free(f->name);
        free(f);
}

static int unload(struct module *module)
{
        tdestroy(module->functions, free_function);
        free(module->global);
        free(module);
        return SUCCESS;
}

static int get(struct function **ret, struct module *module, const char *name)
{
        struct function key = {.name = (char *)name}, **found, *f;

        if (!module || !name)
                return INVALID_HANDLE;
        pthread_mutex_lock(&module->lock);
        found = tfind(&key, &module->functions, by_name);
        f = found ? *found : calloc(1, sizeof *f);
        if (!found) {
                f->name = strdup(name);
                f->module = module;
                f->is_llm_row = cost_is_row_kernel(name);
                tsearch(f, &module->functions, by_name);
        }
        pthread_mutex_unlock(&module->lock);
        *ret = f;
        return SUCCESS;
}

static int get_global(void **pointer, size_t *size, struct module *module)
{
        if (!module->global)
                module->global = calloc(1, GLOBAL_BYTES);
        if (pointer)
                *pointer = module->global;
        if (size)
                *size = GLOBAL_BYTES;
        return SUCCESS;
}

API cuModuleLoadData(struct module **ret, const void *image)
{
        (void)image;
        return context_current() ? load(ret) : INVALID_CONTEXT;
}

API cuModuleLoadDataEx(struct module **ret, const void *image, unsigned n, void *options, void *values)
{
        (void)n, (void)options, (void)values;
        return cuModuleLoadData(ret, image);
}

API cuModuleLoadFatBinary(struct module **ret, const void *image)
{
        return cuModuleLoadData(ret, image);
}

API cuModuleUnload(struct module *module)
{
        return unload(module);
}

API cuModuleGetFunction(struct function **ret, struct module *module, const char *name)
{
        return get(ret, module, name);
}

API cuModuleGetGlobal_v2(void **pointer, size_t *size, struct module *module, const char *name)
{
        (void)name;
        return get_global(pointer, size, module);
}

API cuModuleGetLoadingMode(int *mode)
{
        *mode = 2; // lazy
        return SUCCESS;
}

API cuLibraryLoadData(struct module **ret, const void *code, void *a, void *b, unsigned n, void *c, void *d,
                      unsigned m)
{
        (void)code, (void)a, (void)b, (void)n, (void)c, (void)d, (void)m;
        return load(ret);
}

API cuLibraryUnload(struct module *library)
{
        return unload(library);
}

API cuLibraryGetKernel(struct function **ret, struct module *library, const char *name)
{
        return get(ret, library, name);
}

API cuLibraryGetModule(struct module **ret, struct module *library)
{
        *ret = library;
        return SUCCESS;
}

API cuLibraryGetGlobal(void **pointer, size_t *size, struct module *library, const char *name)
{
        (void)name;
        return get_global(pointer, size, library);
}

API cuLibraryGetManaged(void **pointer, size_t *size, struct module *library, const char *name)
{
        (void)name;
        return get_global(pointer, size, library);
}

API cuKernelGetFunction(struct function **ret, struct function *kernel)
{
        *ret = kernel;
        return SUCCESS;
}

API cuKernelGetLibrary(struct module **ret, struct function *kernel)
{
        *ret = kernel->module;
        return SUCCESS;
}

API cuKernelGetName(const char **ret, struct function *kernel)
{
        *ret = kernel->name;
        return SUCCESS;
}

API cuFuncGetName(const char **ret, struct function *f)
{
        *ret = f->name;
        return SUCCESS;
}

API cuFuncGetModule(struct module **ret, struct function *f)
{
        *ret = f->module;
        return SUCCESS;
}

API cuFuncLoad(struct function *f)
{
        (void)f;
        return SUCCESS;
}

API cuFuncIsLoaded(int *state, struct function *f)
{
        (void)f;
        *state = 1;
        return SUCCESS;
}

// CUfunction_attribute: 0 threads a block, 4 registers, 5 PTX and 6 binary version, 8 dynamic shared memory
API cuFuncGetAttribute(int *value, int attribute, struct function *f)
{
        static const int values[16] = {[0] = 1024, [4] = 32, [5] = 80, [6] = 80, [8] = 49152};

        if (!f)
                return INVALID_HANDLE;
        *value = attribute >= 0 && attribute < 16 ? values[attribute] : 0;
        if (attribute == 8 && f->dynamic_shared)
                *value = f->dynamic_shared;
        return SUCCESS;
}

API cuKernelGetAttribute(int *value, int attribute, struct function *kernel, int device)
{
        (void)device;
        return cuFuncGetAttribute(value, attribute, kernel);
}

API cuFuncSetAttribute(struct function *f, int attribute, int value)
{
        if (attribute == 8)
                f->dynamic_shared = value;
        return SUCCESS;
}

API cuKernelSetAttribute(int attribute, int value, struct function *kernel, int device)
{
        (void)device;
        return cuFuncSetAttribute(kernel, attribute, value);
}

API cuFuncSetCacheConfig(struct function *f, int config)
{
        (void)f, (void)config;
        return SUCCESS;
}

API cuKernelSetCacheConfig(struct function *f, int config, int device)
{
        (void)device;
        return cuFuncSetCacheConfig(f, config);
}

API cuFuncSetSharedMemConfig(struct function *f, int config)
{
        return cuFuncSetCacheConfig(f, config);
}

API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, struct function *f, int block, size_t shared)
{
        (void)f, (void)shared;
        *n = block > 0 && block <= 2048 ? (2048 / block < 32 ? 2048 / block : 32) : 1;
        return SUCCESS;
}

API cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *n, struct function *f, int block, size_t shared,
                                                         unsigned flags)
{
        (void)flags;
        return cuOccupancyMaxActiveBlocksPerMultiprocessor(n, f, block, shared);
}

API cuOccupancyMaxActiveClusters(int *n, struct function *f, const void *config)
{
        (void)f, (void)config;
        *n = 1;
        return SUCCESS;
}

API cuOccupancyMaxPotentialBlockSize(int *grid, int *block, struct function *f, void *size_of, size_t shared,
                                     int limit)
{
        (void)f, (void)size_of, (void)shared;
        *block = limit > 0 && limit < 256 ? limit : 256;
        *grid = 108 * 8;
        return SUCCESS;
}

API cuOccupancyAvailableDynamicSMemPerBlock(size_t *size, struct function *f, int blocks, int block)
{
        (void)f, (void)block;
        *size = (size_t)(167936 / (blocks > 0 ? blocks : 1));
        return SUCCESS;
}

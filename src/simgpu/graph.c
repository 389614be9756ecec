// Graphs: what a capture records, and its launch as one piece of work.
#include <stdlib.h>
#include <string.h>
#include "simgpu/driver.h"

struct graph *graph_new(void)
{
        return calloc(1, sizeof(struct graph));
}

void graph_free(struct graph *graph)
{
        for (size_t i = 0; graph && i < graph->n; i++)
                free(graph->node[i]);
        if (graph)
                free(graph->node);
        free(graph);
}

struct graph_node *graph_add(struct graph *graph, int type)
{
        struct graph_node *node = calloc(1, sizeof *node);

        if (graph->n == graph->room) {
                graph->room = graph->room ? 2 * graph->room : 64;
                graph->node = realloc(graph->node, graph->room * sizeof *graph->node);
        }
        node->type = type;
        return graph->node[graph->n++] = node;
}

static struct graph *copy(const struct graph *from)
{
        struct graph *to = graph_new();

        for (size_t i = 0; i < from->n; i++)
                *graph_add(to, from->node[i]->type) = *from->node[i];
        return to;
}

static void take(struct graph_exec *exec, const struct graph *graph)
{
        graph_free(exec->graph);
        exec->graph = copy(graph);
        exec->cost_ns = 0;
        exec->has_copies = 0;
        for (size_t i = 0; i < graph->n; i++) {
                exec->cost_ns += graph->node[i]->cost_ns;
                exec->has_copies |= graph->node[i]->type != 0;
        }
}

static void run_node(struct graph_node *node)
{
        if (node->type == 1)
                memmove(node->to, node->from, node->size);
        else if (node->type == 2)
                memory_fill(node->to, node->value, node->width, node->size);
        else if (node->type == 3)
                node->host(node->host_arg);
}

static int launch(struct graph_exec *exec, struct stream *stream)
{
        if (!exec || !stream)
                return INVALID_HANDLE;
        for (size_t i = 0; exec->has_copies && i < exec->graph->n; i++)
                run_node(exec->graph->node[i]);
        return stream_submit(stream, exec->cost_ns);
}

API cuGraphLaunch(struct graph_exec *exec, struct stream *stream)
{
        return launch(exec, stream_of(stream));
}

API cuGraphLaunch_ptsz(struct graph_exec *exec, struct stream *stream)
{
        return launch(exec, stream_of(stream ? stream : STREAM_PER_THREAD));
}

API cuGraphUpload(struct graph_exec *exec, struct stream *stream)
{
        (void)exec, (void)stream;
        return SUCCESS;
}

API cuGraphUpload_ptsz(struct graph_exec *exec, struct stream *stream)
{
        return cuGraphUpload(exec, stream);
}

API cuGraphCreate(struct graph **ret, unsigned flags)
{
        (void)flags;
        *ret = graph_new();
        return SUCCESS;
}

API cuGraphDestroy(struct graph *graph)
{
        graph_free(graph);
        return SUCCESS;
}

API cuGraphInstantiateWithFlags(struct graph_exec **ret, struct graph *graph, unsigned long long flags)
{
        (void)flags;
        if (!graph)
                return INVALID_VALUE;
        *ret = calloc(1, sizeof **ret);
        take(*ret, graph);
        return SUCCESS;
}

API cuGraphInstantiate(struct graph_exec **ret, struct graph *graph, void **node, char *log, size_t size)
{
        (void)node, (void)log, (void)size;
        return cuGraphInstantiateWithFlags(ret, graph, 0);
}

API cuGraphInstantiate_v2(struct graph_exec **ret, struct graph *graph, void **node, char *log, size_t size)
{
        return cuGraphInstantiate(ret, graph, node, log, size);
}

API cuGraphInstantiateWithParams(struct graph_exec **ret, struct graph *graph, void *params)
{
        (void)params;
        return cuGraphInstantiateWithFlags(ret, graph, 0);
}

API cuGraphInstantiateWithParams_ptsz(struct graph_exec **ret, struct graph *graph, void *params)
{
        return cuGraphInstantiateWithParams(ret, graph, params);
}

API cuGraphExecDestroy(struct graph_exec *exec)
{
        if (exec)
                graph_free(exec->graph);
        free(exec);
        return SUCCESS;
}

// info: a result (0: success) and two nodes.
API cuGraphExecUpdate_v2(struct graph_exec *exec, struct graph *graph, void *info)
{
        if (info)
                memset(info, 0, 3 * sizeof(void *));
        if (exec->graph->n != graph->n) {
                if (info)
                        *(int *)info = 2; // the topology changed
                return 910;
        }
        take(exec, graph);
        return SUCCESS;
}

API cuGraphExecUpdate(struct graph_exec *exec, struct graph *graph, void **node, int *result)
{
        (void)node;
        *result = 0;
        take(exec, graph);
        return SUCCESS;
}

API cuGraphGetNodes(struct graph *graph, void **nodes, size_t *n)
{
        if (nodes)
                memcpy(nodes, graph->node, (*n < graph->n ? *n : graph->n) * sizeof *nodes);
        *n = graph->n;
        return SUCCESS;
}

API cuGraphNodeGetType(struct graph_node *node, int *type)
{
        *type = node->type;
        return SUCCESS;
}

// CUDA_KERNEL_NODE_PARAMS: function, grid, block, shared memory, parameters, extra, kernel, context
struct kernel_params {
        const void *function;
        unsigned grid[3], block[3], shared;
        void **params, **extra;
        const void *kernel;
        void *context;
};

API cuGraphAddKernelNode_v2(void **ret, struct graph *graph, const void *after, size_t n,
                            const struct kernel_params *p)
{
        struct graph_node *node = graph_add(graph, 0);

        (void)after, (void)n;
        node->function = p->function ? p->function : p->kernel;
        memcpy(node->grid, p->grid, sizeof node->grid);
        memcpy(node->block, p->block, sizeof node->block);
        node->params = p->params;
        node->cost_ns = cost_of_kernel(node->function, node->grid, node->block);
        *ret = node;
        return SUCCESS;
}

API cuGraphAddKernelNode(void **ret, struct graph *graph, const void *after, size_t n,
                         const struct kernel_params *p)
{
        return cuGraphAddKernelNode_v2(ret, graph, after, n, p);
}

API cuGraphAddEmptyNode(void **ret, struct graph *graph, const void *after, size_t n)
{
        (void)after, (void)n;
        *ret = graph_add(graph, 5);
        return SUCCESS;
}

API cuGraphKernelNodeGetParams_v2(struct graph_node *node, struct kernel_params *p)
{
        memset(p, 0, sizeof *p);
        p->function = node->function;
        memcpy(p->grid, node->grid, sizeof p->grid);
        memcpy(p->block, node->block, sizeof p->block);
        p->shared = node->shared;
        p->params = node->params;
        return SUCCESS;
}

API cuGraphKernelNodeGetParams(struct graph_node *node, struct kernel_params *p)
{
        return cuGraphKernelNodeGetParams_v2(node, p);
}

API cuGraphExecKernelNodeSetParams_v2(struct graph_exec *exec, struct graph_node *node,
                                      const struct kernel_params *p)
{
        (void)exec, (void)node, (void)p;
        return SUCCESS;
}

API cuGraphExecKernelNodeSetParams(struct graph_exec *exec, struct graph_node *node,
                                   const struct kernel_params *p)
{
        return cuGraphExecKernelNodeSetParams_v2(exec, node, p);
}

API cuStreamUpdateCaptureDependencies(struct stream *stream, void *nodes, size_t n, unsigned flags)
{
        (void)stream, (void)nodes, (void)n, (void)flags;
        return SUCCESS;
}

API cuDeviceGraphMemTrim(int device)
{
        (void)device;
        return SUCCESS;
}

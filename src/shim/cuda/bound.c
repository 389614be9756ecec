// Bounded work in flight, while others have a seat on the device: when the gate closes, what is left to wait
// for is at most this long. In pieces of half the bound there is always one to run while the host prepares
// the next.
#include <stdatomic.h>
#include <string.h>
#include "base/time.h"
#include "shim/cuda/lane.h"
#include "shim/cuda/place.h"

#define KERNEL_GUESS_NS (20 * TAKT_US)
#define GRAPH_GUESS_NS (5 * TAKT_MS)
#define BESIDE_GRAPH_MAX 16 // small copies beside a graph are part of what its launch takes

static uint64_t bound_of(int lane)
{
        const struct takt_page_daemon *page = atomic_load(&lease.daemon);

        return page ? atomic_load_explicit(&page->lane[lane].bound_ns, memory_order_relaxed) : 0;
}

// With the lock held.
static uint64_t estimate(const struct lane *l, uintptr_t graph)
{
        int is_graph = graph > WAITED_FOR;
        uint64_t known = is_graph ? graphs_estimate(graph) : l->kernel_ns;

        return known ? known : is_graph ? GRAPH_GUESS_NS : KERNEL_GUESS_NS;
}

// With the lock held: a marker's event is free for another.
static void keep_spare(struct lane *l, const struct marker *marker)
{
        if (marker->event && l->n_spare < SPARE_MAX)
                l->spare[l->n_spare++] = *marker;
}

// With the lock held.
static struct marker take_oldest(struct lane *l)
{
        struct marker oldest = l->marker[l->first];

        l->first = (l->first + 1) % MARKERS_MAX;
        l->n_markers--;
        l->outstanding_ns = takt_time_since(l->outstanding_ns, oldest.estimate_ns);
        l->n_copies = 0;
        return oldest;
}

// The time from one marker to the next is what the piece between took. Where the host was slower than the
// device it is the host's time: no more than that was in flight.
static void learn(struct lane *l, const struct marker *before, const struct marker *piece)
{
        uint64_t ns;
        float ms = 0;

        if (!before->event || before->context != piece->context ||
            driver.event_elapsed(&ms, before->event, piece->event))
                return;
        ns = (uint64_t)((double)ms * 1e6);
        if (piece->graph > GRAPHS_MIXED)
                graphs_learn(piece->graph, ns);
        if (piece->graph)
                return;
        pthread_mutex_lock(&l->lock);
        l->kernel_ns = (3 * (l->kernel_ns ? l->kernel_ns : KERNEL_GUESS_NS) + ns / piece->n_launches) / 4 + 1;
        pthread_mutex_unlock(&l->lock);
}

// The oldest marker was reached. Its event is kept until the next one's, so that the time between the two can
// be asked for; meanwhile both are ours alone.
static void reached(struct lane *l, const void *event)
{
        struct marker before = {0}, oldest = {0};

        pthread_mutex_lock(&l->lock);
        l->n_waiting--;
        if (l->n_markers && l->marker[l->first].event == event) {
                oldest = take_oldest(l);
                before = l->before;
                l->before = (struct marker){0};
        }
        pthread_mutex_unlock(&l->lock);
        if (oldest.event)
                learn(l, &before, &oldest);
        pthread_mutex_lock(&l->lock);
        keep_spare(l, &before);
        if (oldest.event) {
                keep_spare(l, &l->before); // of another thread that was here meanwhile
                l->before = oldest;
        }
        pthread_mutex_unlock(&l->lock);
}

// With the lock held.
static int has_no_room(int lane, uintptr_t graph)
{
        const struct lane *l = &lanes[lane];
        uint64_t bound = bound_of(lane);

        return bound && l->n_markers && l->outstanding_ns + l->piece.estimate_ns + estimate(l, graph) > bound;
}

int bound_is_full(int lane, uintptr_t graph)
{
        if (graph == WAITED_FOR || (graph == SMALL_COPY && lanes[lane].n_copies < COPIES_MAX))
                return 0;
        return has_no_room(lane, graph);
}

void bound_wait(int lane, uintptr_t graph)
{
        struct lane *l = &lanes[lane];
        int mode = settle_relax(CAPTURE_RELAXED);

        for (;;) {
                void *event;
                int full;

                pthread_mutex_lock(&l->lock);
                full = bound_is_full(lane, graph);
                event = l->marker[l->first].event;
                l->n_waiting += (uint32_t)full;
                pthread_mutex_unlock(&l->lock);
                if (!full)
                        break;
                REAL(cuEventSynchronize, event);
                reached(l, event);
        }
        settle_relax(mode);
}

// With the lock held: a spare event, of this context if there is one; of another when there are enough.
static struct marker take_spare(struct lane *l, const void *context)
{
        struct marker taken = {0};
        uint32_t i = 0;

        while (i < l->n_spare && l->spare[i].context != context)
                i++;
        if (i == l->n_spare && l->n_spare + l->n_markers >= MARKERS_MAX && !l->n_waiting)
                i = 0; // nobody waits for an event that might be this one
        if (i < l->n_spare) {
                taken = l->spare[i];
                l->spare[i] = l->spare[--l->n_spare];
        }
        return taken;
}

static void *new_event(void *context)
{
        void *event = NULL, *current = NULL;

        driver.current_context(&current);
        if (context != current && place_enter(context))
                return NULL;
        if (driver.event_create(&event, EVENT_BLOCKING_SYNC))
                event = NULL;
        if (context != current)
                place_leave();
        return event;
}

static void *event_for(struct lane *l, void *context)
{
        struct marker spare;

        pthread_mutex_lock(&l->lock);
        spare = take_spare(l, context);
        pthread_mutex_unlock(&l->lock);
        if (spare.event && spare.context == context)
                return spare.event;
        if (spare.event)
                driver.event_destroy(spare.event);
        return new_event(context);
}

// Records a marker behind the piece. The lock is not held meanwhile: another thread may do the same on its
// stream.
void bound_mark(int lane, uintptr_t handle, void *context, struct marker piece)
{
        struct lane *l = &lanes[lane];
        int mode = settle_relax(CAPTURE_RELAXED), failed;

        piece.context = context;
        piece.event = event_for(l, context);
        failed = !piece.event || driver.event_record(piece.event, handle);
        pthread_mutex_lock(&l->lock);
        if (failed || l->n_markers == MARKERS_MAX) {
                keep_spare(l, &piece);
        } else {
                l->marker[(l->first + l->n_markers++) % MARKERS_MAX] = piece;
                l->outstanding_ns += piece.estimate_ns;
        }
        pthread_mutex_unlock(&l->lock);
        settle_relax(mode);
}

struct marker bound_count(int lane, uintptr_t graph)
{
        struct lane *l = &lanes[lane];
        uint64_t bound = bound_of(lane);
        struct marker piece = {0};

        if (!bound || !driver.event_create || !driver.event_record || !driver.event_elapsed || !driver.push ||
            !driver.pop)
                return piece;
        if (graph == SMALL_COPY) {
                l->n_copies += (uint32_t)has_no_room(lane, graph);
                graph = 0;
        }
        l->piece.estimate_ns += estimate(l, graph);
        l->piece.n_launches++;
        if (graph)
                l->piece.graph = l->piece.graph ? GRAPHS_MIXED : graph;
        if (l->piece.graph && l->piece.n_launches > BESIDE_GRAPH_MAX)
                l->piece.graph = GRAPHS_MIXED;
        if (l->piece.estimate_ns >= bound / 2) {
                piece = l->piece;
                l->piece = (struct marker){0};
        }
        return piece;
}

int bound_is_kept(int lane)
{
        struct lane *l = &lanes[lane];
        int kept;

        pthread_mutex_lock(&l->lock);
        kept = l->n_markers || l->piece.n_launches || l->before.event;
        pthread_mutex_unlock(&l->lock);
        return kept;
}

// One graph and little more between idle and idle, as most engines' decode steps are, teaches what it takes.
void bound_end(struct lane *l, uint64_t span_ns)
{
        const struct marker *only = l->n_markers ? &l->marker[l->first] : &l->piece;

        if (only->graph > GRAPHS_MIXED && l->n_markers <= 1 &&
            (only == &l->piece || (!l->piece.graph && l->piece.n_launches <= BESIDE_GRAPH_MAX)))
                graphs_learn(only->graph, span_ns);
        while (l->n_markers) {
                struct marker oldest = take_oldest(l);

                keep_spare(l, &oldest);
        }
        keep_spare(l, &l->before);
        l->before = l->piece = (struct marker){0};
        l->outstanding_ns = 0;
}

void bound_forget(struct lane *l, void *context)
{
        for (uint32_t i = l->n_spare; i-- > 0;)
                if (l->spare[i].context == context)
                        l->spare[i] = l->spare[--l->n_spare];
        if (l->before.context == context)
                l->before = (struct marker){0};
        for (uint32_t i = 0; i < l->n_markers; i++)
                if (l->marker[(l->first + i) % MARKERS_MAX].context == context)
                        l->marker[(l->first + i) % MARKERS_MAX].event = NULL;
}

void bound_forget_graph(struct lane *l, uintptr_t exec)
{
        if (l->piece.graph == exec)
                l->piece.graph = GRAPHS_MIXED;
        for (uint32_t i = 0; i < MARKERS_MAX; i++)
                if (l->marker[i].graph == exec)
                        l->marker[i].graph = GRAPHS_MIXED;
}

// Answers on the control socket. Nothing here waits: what does not fit its reader's buffer is kept, and sent
// as it reads; until then nothing more is read of what it asks.
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include "node/node.h"

// 1: all of it; 0: as much as its reader has room for; or a negative errno.
static int send_more(struct stream *stream)
{
        ssize_t n = send(stream->watch.fd, stream->unsent + stream->n_sent,
                         stream->unsent_size - stream->n_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        stream->n_sent += (size_t)n;
        return stream->n_sent == stream->unsent_size;
}

void answer_drop(struct stream *stream)
{
        free(stream->unsent);
        stream->unsent = NULL;
}

// Half of an answer is worse than none: whose cannot be sent as a whole is cut off, and nothing more of what
// it asked is heard.
static void cut_off(struct stream *stream)
{
        answer_drop(stream);
        stream->telling = STATUS_NONE;
        stream->is_cut = 1;
        shutdown(stream->watch.fd, SHUT_RDWR);
}

static void go_on(struct node *node, struct stream *stream)
{
        int done = send_more(stream);

        if (done < 0)
                cut_off(stream);
        else if (done)
                answer_drop(stream);
        watch_change(node, &stream->watch, stream->unsent || stream->telling ? EPOLLOUT : EPOLLIN);
}

void answer_send(struct node *node, struct stream *stream, char *text, size_t size)
{
        assert(!stream->unsent);
        if (!text) {
                cut_off(stream);
                return;
        }
        stream->unsent = text;
        stream->unsent_size = size;
        stream->n_sent = 0;
        go_on(node, stream);
}

void answer_go_on(struct node *node, struct stream *stream)
{
        if (stream->unsent)
                go_on(node, stream);
        else
                status_go_on(node, stream);
}

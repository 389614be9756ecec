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

// No user's unread answers take more memory than is left for those of others; but one of them is kept
// whatever others have.
static int may_keep(const struct node *node, uid_t uid)
{
        uint32_t n_answers = 0;
        size_t n_all = 0, n_own = 0;

        for (const struct stream *s = node->stream; s < node->stream + NODE_STREAMS_MAX; s++) {
                size_t size = s->used && s->unsent ? s->unsent_size : 0;

                n_all += size;
                n_own += s->uid == uid ? size : 0;
                n_answers += s->uid == uid && size;
        }
        return n_answers == 1 || n_own + n_all <= NODE_UNSENT_MAX;
}

void answer_drop(struct stream *stream)
{
        free(stream->unsent);
        stream->unsent = NULL;
}

// Half of an answer is worse than none: whose cannot be sent as a whole is cut off.
void answer_send(struct node *node, struct stream *stream, char *text, size_t size)
{
        int done;

        assert(!stream->unsent);
        stream->unsent = text;
        stream->unsent_size = size;
        stream->n_sent = 0;
        done = send_more(stream);
        if (!done && may_keep(node, stream->uid)) {
                watch_change(node, &stream->watch, EPOLLOUT);
                return;
        }
        answer_drop(stream);
        if (done <= 0)
                shutdown(stream->watch.fd, SHUT_RDWR);
}

void answer_go_on(struct node *node, struct stream *stream)
{
        int done = send_more(stream);

        if (!done)
                return;
        answer_drop(stream);
        if (done < 0)
                shutdown(stream->watch.fd, SHUT_RDWR);
        watch_change(node, &stream->watch, EPOLLIN);
}

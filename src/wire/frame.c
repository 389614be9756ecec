#include "wire/frame.h"
#include <errno.h>
#include <string.h>

static size_t size_of(unsigned type)
{
        switch (type) {
        case TAKT_FRAME_JOIN:
                return sizeof(struct takt_frame_join);
        case TAKT_FRAME_WELCOME:
                return sizeof(struct takt_frame_welcome);
        case TAKT_FRAME_REFUSED:
                return sizeof(struct takt_frame_refused);
        default:
                return 0;
        }
}

size_t takt_frame_init(union takt_frame *frame, enum takt_frame_type type)
{
        size_t size = size_of(type);

        memset(frame, 0, sizeof *frame);
        frame->head = (struct takt_frame_head){
                .magic = TAKT_WIRE_MAGIC,
                .type = (uint16_t)type,
                .size = (uint16_t)size,
                .major = TAKT_WIRE_MAJOR,
                .minor = TAKT_WIRE_MINOR,
                .features = TAKT_WIRE_FEATURES,
        };
        return size;
}

void takt_frame_agree(struct takt_frame_head *ours, const struct takt_frame_head *theirs)
{
        if (theirs->minor < ours->minor)
                ours->minor = theirs->minor;
        ours->features &= theirs->features;
}

int takt_frame_parse(const void *data, size_t size, union takt_frame *ret_frame)
{
        struct takt_frame_head head;

        if (size < sizeof head)
                return -EBADMSG;
        memcpy(&head, data, sizeof head);
        if (head.magic != TAKT_WIRE_MAGIC || head.size != size)
                return -EBADMSG;
        if (head.major != TAKT_WIRE_MAJOR)
                return -EPROTONOSUPPORT;
        if (size_of(head.type) == 0 || size < size_of(head.type))
                return -EBADMSG;
        memset(ret_frame, 0, sizeof *ret_frame);
        memcpy(ret_frame, data, size_of(head.type));
        if (head.type == TAKT_FRAME_JOIN && ret_frame->join.n_devices > TAKT_WIRE_DEVICES)
                return -EBADMSG;
        return 0;
}

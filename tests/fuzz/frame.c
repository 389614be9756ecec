// Whatever a peer sends as a frame: it is refused, or understood, and then the same again when it is sent on.
#include <errno.h>
#include <string.h>
#include "bytes.h"
#include "wire/frame.h"

static void sends_on_as_the_same(const union takt_frame *frame)
{
        union takt_frame fresh, sent = *frame, again;
        size_t size = takt_frame_init(&fresh, frame->head.type);

        sent.head.size = (uint16_t)size;
        MUST(size > 0 && size <= sizeof sent);
        MUST(takt_frame_parse(&sent, size, &again) == 0);
        MUST(memcmp(&sent, &again, sizeof sent) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        union takt_frame frame;
        int error = takt_frame_parse(data, size, &frame);

        MUST(error == 0 || error == -EBADMSG || error == -EPROTONOSUPPORT);
        if (error)
                return 0;
        MUST(frame.head.magic == TAKT_WIRE_MAGIC && frame.head.major == TAKT_WIRE_MAJOR);
        MUST(frame.head.size == size);
        MUST(frame.head.type != TAKT_FRAME_JOIN || frame.join.n_devices <= TAKT_WIRE_DEVICES);
        sends_on_as_the_same(&frame);
        return 0;
}

// Whatever a server writes as a request line: it is refused, or a whole line of a known event with a deadline
// in range.
#include <errno.h>
#include <string.h>
#include "base/time.h"
#include "bytes.h"
#include "wire/request.h"

#define LONGEST_NS (UINT64_C(1000000000) * TAKT_MS)

static int is_text(const char *line, size_t size)
{
        for (size_t i = 0; i < size; i++)
                if ((unsigned char)line[i] < 0x20 && line[i] != '\t' && line[i] != '\r')
                        return 0;
        return 1;
}

static void every_part_is_refused(const char *line, size_t size)
{
        struct takt_request_line part;

        while (line[size - 1] != '}')
                size--;
        for (size_t i = 0; i < size; i++)
                MUST(takt_request_parse(line, i, &part) == -EBADMSG);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = (const char *)data;
        struct takt_request_line line, again;
        int error = takt_request_parse(text, size, &line);

        MUST(error == 0 || error == -EBADMSG);
        if (error)
                return 0;
        MUST(size <= TAKT_REQUEST_LINE_MAX);
        MUST(is_text(text, size));
        MUST(line.event >= TAKT_REQUEST_ARRIVED && line.event <= TAKT_REQUEST_FINISHED);
        MUST(line.deadline_ns <= LONGEST_NS);
        MUST(takt_request_parse(text, size, &again) == 0 && again.id == line.id);
        every_part_is_refused(text, size);
        return 0;
}

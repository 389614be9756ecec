#include "kube/answer.h"
#include <stdlib.h>
#include <string.h>
#include "kube/pluginregistration.pb-c.h"

void answer_message(struct rpc_call *call, const ProtobufCMessage *message)
{
        size_t size = protobuf_c_message_get_packed_size(message);
        uint8_t *bytes = malloc(size + 1);

        if (bytes && rpc_send(call, bytes, protobuf_c_message_pack(message, bytes)) == 0)
                rpc_end(call, GRPC_OK, NULL);
        else
                rpc_end(call, GRPC_RESOURCE_EXHAUSTED, "out of memory");
        free(bytes);
}

void answer_bad_request(struct rpc_call *call)
{
        rpc_end(call, GRPC_INVALID_ARGUMENT, "the message is not this method's");
}

static void tell_info(const struct answer_info *info, struct rpc_call *call)
{
        Pluginregistration__PluginInfo message = PLUGINREGISTRATION__PLUGIN_INFO__INIT;

        message.type = (char *)(uintptr_t)info->type;
        message.name = (char *)(uintptr_t)info->name;
        message.endpoint = (char *)(uintptr_t)info->endpoint;
        message.supported_versions = (char **)(uintptr_t)info->versions;
        message.n_supported_versions = info->n_versions;
        answer_message(call, &message.base);
}

static void take_status(const struct answer_info *info, void *context, struct rpc_call *call,
                        const uint8_t *data, size_t size)
{
        Pluginregistration__RegistrationStatus *status =
                pluginregistration__registration_status__unpack(NULL, size, data);

        if (!status) {
                answer_bad_request(call);
                return;
        }
        if (rpc_send(call, NULL, 0) == 0) // an empty message
                rpc_end(call, GRPC_OK, NULL);
        info->notified(context, status->plugin_registered, status->error);
        pluginregistration__registration_status__free_unpacked(status, NULL);
}

int answer_watcher(const struct answer_info *info, void *context, struct rpc_call *call, const char *method,
                   const uint8_t *data, size_t size)
{
        static const char prefix[] = "/pluginregistration.Registration/";
        const char *name = method + sizeof prefix - 1;

        if (strncmp(method, prefix, sizeof prefix - 1))
                return 0;
        if (!strcmp(name, "GetInfo"))
                tell_info(info, call);
        else if (!strcmp(name, "NotifyRegistrationStatus"))
                take_status(info, context, call, data, size);
        else
                return 0;
        return 1;
}

{{- define "takt.labels" -}}
app.kubernetes.io/name: takt
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* A ClusterRole and its binding are the whole cluster's. */}}
{{- define "takt.clusterName" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

{{- /* The configuration as a map, with what the chart decides in it. The default `sharing` is put in here and is no value:
values are merged, and a GPU may not be claimed and a resource's too. */}}
{{- define "takt.config" -}}
{{- $config := .Values.config }}
{{- $ours := dict "takt" (dict "lib" .Values.lib) }}
{{- if kindIs "string" $config }}
{{- $config = fromYaml $config }}
{{- if hasKey $config "Error" }}
{{- fail (printf "config: %s" $config.Error) }}
{{- end }}
{{- else if eq (toString (dig "takt" "door" "plugin" $config)) "plugin" }}
{{- $resource := dict "name" "nvidia.com/gpu" "rename" "takt.dev/gpu" "replicas" 4 }}
{{- $_ := set $ours "sharing" (dict "timeSlicing" (dict "resources" (list $resource))) }}
{{- end }}
{{- mustMergeOverwrite $ours $config | toYaml }}
{{- end }}


{{- /* Not empty: GPUs go by claims, all or some. */}}
{{- define "takt.dra" -}}
{{- $door := (include "takt.config" . | fromYaml).takt.door }}
{{- if or (eq (toString $door) "dra") (kindIs "map" $door) }}yes{{ end }}
{{- end }}

{{- /* Of the metrics, where they are served by TCP. */}}
{{- define "takt.port" -}}
{{- regexFind ":[0-9]+$" (toString (default "" (include "takt.config" . | fromYaml).takt.metrics)) | trimPrefix ":" }}
{{- end }}

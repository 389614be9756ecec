{{- define "takt.labels" -}}
app.kubernetes.io/name: takt
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* A ClusterRole and its binding are the whole cluster's. */}}
{{- define "takt.clusterName" -}}
{{ .Release.Namespace }}-{{ .Release.Name }}
{{- end }}

{{- /* The configuration as a map, with what the chart decides in it. */}}
{{- define "takt.config" -}}
{{- $config := .Values.config }}
{{- if kindIs "string" $config }}
{{- $config = fromYaml $config }}
{{- if hasKey $config "Error" }}
{{- fail (printf "config: %s" $config.Error) }}
{{- end }}
{{- end }}
{{- mustMergeOverwrite (dict "takt" (dict "lib" .Values.lib)) $config | toYaml }}
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

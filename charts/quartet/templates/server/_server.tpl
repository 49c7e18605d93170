{{/*
How many replicas to ask for. An autoscaler decides by itself; but the number must not vanish from a Deployment that had
one, because Kubernetes would make it 1 until the autoscaler has looked, so what is there is said again.
*/}}
{{- define "quartet.replicas" -}}
{{- if not .Values.server.autoscaling.enabled -}}
{{- .Values.server.replicas -}}
{{- else -}}
{{- dig "spec" "replicas" "" (lookup "apps/v1" "Deployment" .Release.Namespace (include "quartet.componentname" (list . "server"))) -}}
{{- end -}}
{{- end }}

{{/* What services need in the environment besides the ConfigMap. */}}
{{- define "quartet.serverenv" -}}
{{- range $_, $env := include "quartet.facts" (list . "env") | fromYaml }}
{{ toYaml $env }}
{{- end }}
{{- end }}

{{- define "quartet.datavolume" -}}
name: data
{{- with .Values.server.persistence }}
{{- if .enabled }}
persistentVolumeClaim:
  claimName: {{ .existingClaim | default (printf "%s-data" (include "quartet.componentname" (list $ "server"))) }}
{{- else }}
emptyDir: {}
{{- end }}
{{- end }}
{{- end }}

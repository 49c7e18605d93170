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
  claimName: {{ .existingClaim | default (printf "%s-data" (include "quartet.componentname" (list $ "server"))) | quote }}
{{- else }}
# Beyond it the kubelet ends the pod, before the disk of its node is full.
emptyDir: {sizeLimit: {{ include "quartet.scalar" .size | quote }}}
{{- end }}
{{- end }}
{{- end }}

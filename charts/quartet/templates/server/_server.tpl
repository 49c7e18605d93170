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

{{/* Where objects and channels are, as far as a Secret is part of it. */}}
{{- define "quartet.serverenv" -}}
{{- with .Values.server.objects.secret }}
{{- range $key := list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
- name: {{ $key }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.server.objects.secret }}, key: {{ $key }}}}
{{- end }}
# There are credentials, so nobody needs to be asked who this machine is.
- name: AWS_EC2_METADATA_DISABLED
  value: "true"
{{- end }}
{{- with .Values.server.channels }}
{{- if .secret }}
{{- range $key := list "NATS_USER" "NATS_PASSWORD" }}
- name: {{ $key }}
  valueFrom: {secretKeyRef: {name: {{ $.Values.server.channels.secret }}, key: {{ $key }}}}
{{- end }}
# Kubernetes fills the credentials in when it starts the container.
- name: QUARTET_CHANNELS_URL
  value: {{ .url | replace "nats://" "nats://$(NATS_USER):$(NATS_PASSWORD)@" | quote }}
{{- end }}
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

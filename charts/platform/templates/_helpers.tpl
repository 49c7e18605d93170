{{/* Each takes (list $ "jaeger"), with the name of a part. */}}

{{- define "platform.partname" -}}
{{- regexReplaceAll "^([^a-z])" (printf "%s-%s" (first .).Release.Name (last .) | replace "." "-") "r${1}" | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{/*
The name of what belongs to the whole cluster or to another namespace. There can be a platform in each namespace, and the dot,
which is in neither half, tells prod.eu-prometheus from prod-eu.prometheus.
*/}}
{{- define "platform.clustername" -}}
{{- printf "%s.%s" (first .).Release.Namespace (include "platform.partname" .) -}}
{{- end }}

{{- define "platform.selector" -}}
app.kubernetes.io/name: {{ last . }}
app.kubernetes.io/instance: {{ (first .).Release.Name | quote }}
{{- end }}

{{- define "platform.metadata" -}}
name: {{ include "platform.partname" . }}
{{ include "platform.labels" . }}
{{- end }}

{{- define "platform.labels" -}}
labels:
  {{- include "platform.selector" . | nindent 2 }}
  app.kubernetes.io/part-of: platform
  app.kubernetes.io/managed-by: {{ (first .).Release.Service }}
{{- end }}

{{/* Beginning of a Deployment, up to the pod's spec. One replica each, and none beside it on the same volume. */}}
{{- define "platform.deployment" -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  {{- include "platform.metadata" . | nindent 2 }}
spec:
  strategy:
    type: Recreate
  selector:
    matchLabels:
      {{- include "platform.selector" . | nindent 6 }}
{{- end }}

{{- define "platform.podspec" -}}
enableServiceLinks: false
# They are for development: they need not drain.
terminationGracePeriodSeconds: 10
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "platform.container" -}}
image: {{ index (first .).Values (last .) "image" | quote }}
imagePullPolicy: IfNotPresent
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* (list $ "jaeger" (dict "ui" 16686)) */}}
{{- define "platform.service" -}}
{{- $part := list (first .) (index . 1) -}}
apiVersion: v1
kind: Service
metadata:
  {{- include "platform.metadata" $part | nindent 2 }}
spec:
  selector:
    {{- include "platform.selector" $part | nindent 4 }}
  ports:
    {{- range $name, $port := last . }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}}
    {{- end }}
{{- end }}

{{/* A volume that outlives the pod and not the release. */}}
{{- define "platform.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  {{- include "platform.metadata" . | nindent 2 }}
spec:
  accessModes: [ReadWriteOnce]
  resources:
    requests:
      storage: {{ index (first .).Values (last .) "storage" | quote }}
{{- end }}

{{/*
A Secret with a name and a password made up at the first install and kept from then on: (list $ "part" "USER"
"quartet" "PASSWORD"). The password begins with a letter: some programs take one that looks like a number for one.
*/}}
{{- define "platform.secret" -}}
{{- $root := first . -}}
{{- $part := list $root (index . 1) -}}
{{- $old := (lookup "v1" "Secret" $root.Release.Namespace (include "platform.partname" $part)).data | default dict -}}
apiVersion: v1
kind: Secret
metadata:
  {{- include "platform.metadata" $part | nindent 2 }}
data:
  {{ index . 2 }}: {{ index . 3 | b64enc }}
  {{ index . 4 }}: {{ get $old (index . 4) | default (printf "p%s" (randAlphaNum 31) | b64enc) }}
{{- end }}

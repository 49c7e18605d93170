{{/* Names. A component is "server", "client" or "test"; what takes one takes (list $ "server"). */}}

{{- define "quartet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 46 | trimSuffix "-" -}}
{{- end }}

{{/* 46 characters leave room for "-server-headless" in the 63 of a Service's name. */}}
{{- define "quartet.fullname" -}}
{{- $name := include "quartet.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 46 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 46 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 46 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "quartet.componentname" -}}
{{- printf "%s-%s" (include "quartet.fullname" (first .)) (last .) -}}
{{- end }}

{{/* What a Deployment selects by can never change, so nothing but these three belongs here. */}}
{{- define "quartet.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "quartet.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ last . }}
{{- end }}

{{- define "quartet.labels" -}}
{{- $root := first . -}}
{{ include "quartet.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: {{ include "quartet.name" $root }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* An image by digest if there is one, else by tag, else by the chart's appVersion. */}}
{{- define "quartet.image" -}}
{{- $image := (index (first .).Values (last .)).image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (first .).Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* Where the client finds the servers: all of them, by the headless Service, so that it can balance by itself. */}}
{{- define "quartet.target" -}}
{{- .Values.client.server | default (printf "dns:///%s-headless:50051" (include "quartet.componentname" (list . "server"))) -}}
{{- end }}

{{/* How many replicas there may be at once. */}}
{{- define "quartet.mostreplicas" -}}
{{- with .Values.server }}{{ ternary .autoscaling.maxReplicas .replicas .autoscaling.enabled }}{{ end -}}
{{- end }}

{{- define "quartet.podmonitor" -}}
{{- $enabled := .Values.metrics.podMonitor.enabled | toString -}}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor")) -}}
true
{{- end -}}
{{- end }}

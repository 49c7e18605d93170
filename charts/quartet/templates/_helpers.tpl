{{/* Names. A component is "server", "client" or "check"; what takes one takes (list $ "server"). */}}

{{- define "quartet.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 46 | trimSuffix "-" -}}
{{- end }}

{{/*
The name of a release's resources. 46 characters leave room for "-server-headless" in the 63 of a Service's name, which is
made of letters, digits and hyphens, a letter first. The name of a release may be longer and have dots; what had to be
changed for that ends with a hash, so that two releases never get one name.
*/}}
{{- define "quartet.fullname" -}}
{{- $name := include "quartet.name" . -}}
{{- $release := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- $wanted := .Values.fullnameOverride | default $release -}}
{{- $valid := regexReplaceAll "^([^a-z])" (replace "." "-" $wanted) "r${1}" -}}
{{- if or (ne $valid $wanted) (gt (len $valid) 46) -}}
{{- printf "%s-%s" ($valid | trunc 37 | trimSuffix "-") (sha256sum $wanted | trunc 8) -}}
{{- else -}}
{{- $valid -}}
{{- end -}}
{{- end }}

{{- define "quartet.componentname" -}}
{{- printf "%s-%s" (include "quartet.fullname" (first .)) (last .) -}}
{{- end }}

{{- define "quartet.permissionsname" -}}
{{- printf "%s-permissions" (include "quartet.componentname" (list . "server")) -}}
{{- end }}

{{/* The full name of a Service, as it is known in the whole cluster: (list $ "quartet-server") */}}
{{- define "quartet.hostname" -}}
{{- printf "%s.%s.svc" (last .) (first .).Release.Namespace -}}
{{- with (first .).Values.clusterDomain }}.{{ . }}{{ end -}}
{{- end }}

{{/*
Some maps as one, of which a later one wins. No key is there twice: kubectl takes the last one, and others refuse the file.
*/}}
{{- define "quartet.merge" -}}
{{- $all := dict -}}
{{- range . }}{{ range $key, $value := . }}{{ $_ := set $all $key $value }}{{ end }}{{ end -}}
{{- with $all }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/*
The entries of a list but for those that another list has too, by a field of theirs: (list own others "name"). Of that, /data/
and /data are the same.
*/}}
{{- define "quartet.without" -}}
{{- $rest := list -}}
{{- $taken := list -}}
{{- range index . 1 }}{{ $taken = append $taken (get . (last $) | printf "/%s" | clean) }}{{ end -}}
{{- range first . }}{{ if not (has (get . (last $) | printf "/%s" | clean) $taken) }}{{ $rest = append $rest . }}{{ end }}{{ end -}}
{{- toYaml $rest -}}
{{- end }}

{{/* What a Deployment selects by can never change, so nothing but these three belongs here. */}}
{{- define "quartet.selector" -}}
{{- $root := first . -}}
app.kubernetes.io/name: {{ include "quartet.name" $root | quote }}
app.kubernetes.io/instance: {{ $root.Release.Name | quote }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Labels of a resource: (list $ "server"), and after that maps of more of them. */}}
{{- define "quartet.labels" -}}
{{- $root := first . -}}
{{- $own := include "quartet.selector" . | fromYaml -}}
{{- $_ := set $own "app.kubernetes.io/version" (include "quartet.version" $root | trunc 63 | trimAll "-_.") -}}
{{- $_ := set $own "app.kubernetes.io/part-of" (include "quartet.name" $root) -}}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service -}}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimAll "-_.") -}}
{{- include "quartet.merge" (concat (list $own $root.Values.commonLabels) (slice . 2)) -}}
{{- end }}

{{/* The chart's appVersion as labels and tags have it: neither may have the + of 1.2.3+build.7. */}}
{{- define "quartet.version" -}}
{{- regexReplaceAll "[^A-Za-z0-9_.-]" (.Chart.AppVersion | default .Chart.Version) "_" -}}
{{- end }}

{{/* An image by digest if there is one, else by tag, else by the chart's appVersion. */}}
{{- define "quartet.image" -}}
{{- $image := (index (first .).Values (last .)).image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default (include "quartet.version" (first .) | trunc 128) }}
{{- end -}}
{{- end }}

{{/* Where the client finds the servers: all of them, by the headless Service, so that it can balance by itself. */}}
{{- define "quartet.target" -}}
{{- .Values.client.server | default (printf "dns:///%s:50051" (include "quartet.hostname" (list . (printf "%s-headless" (include "quartet.componentname" (list . "server")))))) -}}
{{- end }}

{{/* Whether the Service of a component has an address outside of the cluster. Metrics are not in such a one. */}}
{{- define "quartet.published" -}}
{{- if ne (index (first .).Values (last .)).service.type "ClusterIP" }}true{{ end -}}
{{- end }}

{{/* How many replicas there may be at once. */}}
{{- define "quartet.maxreplicas" -}}
{{- with .Values.server }}{{ ternary .autoscaling.maxReplicas .replicas .autoscaling.enabled | int64 }}{{ end -}}
{{- end }}

{{- define "quartet.podmonitor" -}}
{{- $enabled := .Values.metrics.podMonitor.enabled | toString -}}
{{- if or (eq $enabled "true") (and (eq $enabled "auto") (.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor")) -}}
true
{{- end -}}
{{- end }}

{{/* What the pods of both components have in common. Each takes (list $ "server"). */}}

{{- define "quartet.podmetadata" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (last .) -}}
labels: # Without the versions that others bear: a new chart around the same pods starts none of them anew.
  {{- include "quartet.merge" (list (include "quartet.selector" . | fromYaml) $root.Values.commonLabels $values.podLabels) | nindent 2 }}
annotations:
  {{- include "quartet.merge" (list (include "quartet.podannotations" . | fromYaml) $values.podAnnotations) | nindent 2 }}
{{- end }}

{{- define "quartet.podannotations" -}}
# A changed setting starts new pods.
checksum/config: {{ include (printf "quartet.%sconfig" (last .)) (first .) | sha256sum | quote }}
{{- if (first .).Values.metrics.annotations }}
prometheus.io/scrape: "true"
prometheus.io/port: {{ get (dict "server" "9464" "client" "9465") (last .) | quote }}
prometheus.io/path: /metrics
{{- end }}
{{- end }}

{{/* Beginning of a pod's spec. */}}
{{- define "quartet.podspec" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (last .) -}}
serviceAccountName: {{ include "quartet.componentname" . }}
# Neither program asks Kubernetes anything by itself, and none of its variables are wanted.
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ include "quartet.graceseconds" . }}
securityContext:
  {{- toYaml $root.Values.podSecurityContext | nindent 2 }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Which nodes are better than others, and which pods are scheduled first. */}}
{{- define "quartet.placement" -}}
{{- $values := index (first .).Values (last .) -}}
affinity:
  {{- $values.affinity | default (include "quartet.apart" . | fromYaml) | toYaml | nindent 2 }}
topologySpreadConstraints:
  {{- $values.topologySpreadConstraints | default (include "quartet.spread" . | fromYamlArray) | toYaml | nindent 2 }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- end }}

{{/*
Replicas keep away from each other, first by node, then by zone, and server and client keep away from each other where
that costs nothing: a node that dies takes as little as possible. The zones are not among the constraints below, because
on nodes without zones that would turn all constraints off.
*/}}
{{- define "quartet.apart" -}}
podAntiAffinity:
  preferredDuringSchedulingIgnoredDuringExecution:
    {{- range $key, $weight := dict "kubernetes.io/hostname" 100 "topology.kubernetes.io/zone" 50 }}
    - weight: {{ $weight }}
      podAffinityTerm:
        topologyKey: {{ $key }}
        matchLabelKeys: [pod-template-hash]
        labelSelector:
          matchLabels:
            {{- include "quartet.selector" $ | nindent 12 }}
    {{- end }}
    - weight: 25
      podAffinityTerm:
        topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels:
            {{- include "quartet.selector" (list (first .) (get (dict "server" "client" "client" "server") (last .))) | nindent 12 }}
{{- end }}

{{/* The hash keeps the pods of the last version out of the count, which would leave the new ones in a heap. */}}
{{- define "quartet.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  matchLabelKeys: [pod-template-hash]
  labelSelector:
    matchLabels:
      {{- include "quartet.selector" . | nindent 6 }}
{{- end }}

{{/* Beginning of a container. */}}
{{- define "quartet.container" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (last .) -}}
name: {{ last . }}
image: {{ include "quartet.image" . | quote }}
imagePullPolicy: {{ $values.image.pullPolicy }}
securityContext:
  {{- toYaml $root.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
# Buffers and Go's memory limit are computed when the process starts; processors it finds anew by itself.
resizePolicy:
  - {resourceName: cpu, restartPolicy: NotRequired}
  - {resourceName: memory, restartPolicy: RestartContainer}
{{- with $values.drain.preStopSeconds }}
lifecycle:
  preStop:
    # The process still serves while Services and their clients learn that the pod is going.
    sleep:
      seconds: {{ . }}
{{- end }}
envFrom:
  - configMapRef:
      name: {{ include "quartet.componentname" $ }}
{{- end }}

{{/*
The variables of a container: (list $ "server" more), more being a list of those that the component has besides. An entry of
extraEnv takes the place of one of the same name. Kubernetes replaces $(NAME) only by what stands above it, so variables
that refer to others come last.
*/}}
{{- define "quartet.env" -}}
{{- $extra := (index (first .).Values (index . 1)).extraEnv | default list -}}
{{- $plain := list -}}
{{- $referring := list -}}
{{- range concat (last .) (include "quartet.podenv" . | fromYamlArray) -}}
{{- if contains "$(" (toString .value) }}{{ $referring = append $referring . }}{{ else }}{{ $plain = append $plain . }}{{ end -}}
{{- end -}}
{{- $plain = include "quartet.without" (list $plain $extra "name") | fromYamlArray -}}
{{- $referring = include "quartet.without" (list $referring $extra "name") | fromYamlArray -}}
{{- toYaml (concat $plain $extra $referring) -}}
{{- end }}

{{/* Variables that differ from pod to pod. OpenTelemetry's attributes name the pod in every trace. */}}
{{- define "quartet.podenv" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (index . 1) -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: {{ include "quartet.attributes" $root | quote }}
{{- if (($values.resources).limits).memory }}
# In bytes, as it is when the container starts, also after the pod was resized. GOMEMLIMIT follows from it.
- name: {{ include "quartet.prefix" . }}MEMORY_LIMIT
  valueFrom: {resourceFieldRef: {resource: limits.memory}}
# More garbage between two collections is affordable because GOMEMLIMIT bounds it.
- name: GOGC
  value: {{ include "quartet.scalar" $values.gogc | quote }}
{{- end }}
{{- end }}

{{/* name=value,name=value; in a value, all but letters, digits and a few signs is written as %20. */}}
{{- define "quartet.attributes" -}}
{{- $all := dict "k8s.pod.name" "$(POD_NAME)" "k8s.namespace.name" "$(POD_NAMESPACE)" "k8s.node.name" "$(NODE_NAME)" -}}
{{- range $key, $value := .Values.telemetry.resourceAttributes }}{{ $_ := set $all $key (urlquery $value | replace "+" "%20") }}{{ end -}}
{{- $pairs := list -}}
{{- range $key, $value := $all }}{{ $pairs = append $pairs (printf "%s=%s" $key $value) }}{{ end -}}
{{- join "," $pairs -}}
{{- end }}

{{/*
What a container mounts and a pod has for it: (list $ "server" more), more being what the component has besides the
certificate. Those of extraVolumeMounts and extraVolumes take the place of others at the same path and of the same name.
*/}}
{{- define "quartet.volumemounts" -}}
{{- $extra := (index (first .).Values (index . 1)).extraVolumeMounts | default list -}}
{{- $own := last . -}}
{{- if ne (first .).Values.tls.mode "off" }}{{ $own = append $own (dict "name" "tls" "mountPath" "/tls" "readOnly" true) }}{{ end -}}
{{- if and (first .).Values.tls.permissions (eq (index . 1) "server") -}}
  {{- $own = append $own (dict "name" "permissions" "mountPath" "/permissions" "readOnly" true) -}}
{{- end -}}
{{- if include "quartet.tokensvolume" . }}{{ $own = append $own (dict "name" "tokens" "mountPath" "/tokens" "readOnly" true) }}{{ end -}}
{{- with concat (include "quartet.without" (list $own $extra "mountPath") | fromYamlArray) $extra -}}
volumeMounts:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "quartet.volumes" -}}
{{- $extra := (index (first .).Values (index . 1)).extraVolumes | default list -}}
{{- $own := last . -}}
{{- if ne (first .).Values.tls.mode "off" }}{{ $own = append $own (include "quartet.tlsvolume" . | fromYaml) }}{{ end -}}
{{- if and (first .).Values.tls.permissions (eq (index . 1) "server") -}}
  {{- $own = append $own (dict "name" "permissions" "configMap" (dict "name" (include "quartet.permissionsname" (first .)))) -}}
{{- end -}}
{{- with include "quartet.tokensvolume" . }}{{ $own = append $own (fromYaml .) }}{{ end -}}
{{- with concat (include "quartet.without" (list $own $extra "name") | fromYamlArray) $extra -}}
volumes:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Probes on the plaintext port, so they work in every TLS mode. Liveness never follows readiness. */}}
{{- define "quartet.probes" -}}
startupProbe: # Three minutes: a service may need two to read what it has stored.
  grpc: {port: {{ . }}, service: liveness}
  periodSeconds: 1
  timeoutSeconds: 2
  failureThreshold: 180
livenessProbe:
  grpc: {port: {{ . }}, service: liveness}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  grpc: {port: {{ . }}, service: readiness}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end }}

{{/* What the pods of both components have in common. Each takes (list $ "server"). */}}

{{- define "quartet.podmetadata" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (last .) -}}
labels: # Without the versions that others bear: a new chart around the same pods starts none of them anew.
  {{- include "quartet.selector" . | nindent 2 }}
  {{- range list $root.Values.commonLabels $values.podLabels }}
  {{- with . }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- end }}
annotations:
  # A changed setting starts new pods.
  checksum/config: {{ include (printf "quartet.%sconfig" (last .)) $root | sha256sum }}
  {{- if $root.Values.metrics.annotations }}
  prometheus.io/scrape: "true"
  prometheus.io/port: {{ get (dict "server" "9464" "client" "9465") (last .) | quote }}
  prometheus.io/path: /metrics
  {{- end }}
  {{- with $values.podAnnotations }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Beginning of a pod's spec. */}}
{{- define "quartet.podspec" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (last .) -}}
serviceAccountName: {{ include "quartet.componentname" . }}
# Neither program asks Kubernetes anything, and none of its variables are wanted.
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

{{/* Which nodes are better than others, and who goes first. */}}
{{- define "quartet.placement" -}}
{{- $values := index (first .).Values (last .) -}}
affinity:
  {{- $values.affinity | default (include "quartet.apart" . | fromYaml) | toYaml | nindent 2 }}
topologySpreadConstraints:
  {{- $values.topologySpreadConstraints | default (include "quartet.spread" . | fromYamlArray) | toYaml | nindent 2 }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
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
image: {{ include "quartet.image" . }}
imagePullPolicy: {{ $values.image.pullPolicy }}
securityContext:
  {{- toYaml $root.Values.securityContext | nindent 2 }}
resources:
  {{- toYaml $values.resources | nindent 2 }}
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

{{/* Variables that differ from pod to pod. OpenTelemetry's attributes name the pod in every trace. */}}
{{- define "quartet.podenv" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (last .) -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.pod.name=$(POD_NAME),k8s.namespace.name=$(POD_NAMESPACE),k8s.node.name=$(NODE_NAME)
    {{- range $key, $value := $root.Values.telemetry.resourceAttributes }},{{ $key }}={{ $value }}{{ end }}
{{- with dig "limits" "memory" "" $values.resources }}
{{- with include "quartet.gomemlimit" . }}
- name: GOMEMLIMIT
  value: {{ . | quote }}
{{- end }}
# More garbage between two collections is affordable because GOMEMLIMIT bounds it.
- name: GOGC
  value: {{ $values.gogc | quote }}
{{- end }}
{{- with $values.extraEnv }}
{{ toYaml . }}
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

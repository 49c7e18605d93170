{{/* The data of the two ConfigMaps, apart from them because the pods bear its checksum. */}}

{{/* What the variables of the programs begin with, by the name in identity.go. */}}
{{- define "quartet.prefix" -}}QUARTET_{{- end }}

{{- define "quartet.serverconfig" -}}
{{ include "quartet.prefix" . }}GRPC_ADDRESS: ":50051"
{{ include "quartet.prefix" . }}PROBE_ADDRESS: ":50052"
{{ include "quartet.prefix" . }}HTTP_ADDRESS: ":9464"
{{ include "quartet.prefix" . }}PROFILE_ADDRESS: "127.0.0.1:6060"
{{- if .Values.web.enabled }}
{{ include "quartet.prefix" . }}WEB_ADDRESS: ":{{ int64 .Values.web.port }}"
{{ include "quartet.prefix" . }}WEB_ALLOWED_ORIGINS: {{ join "," .Values.web.allowedOrigins | quote }}
{{- end }}
{{- range $_, $config := include "quartet.facts" (list . "config") | fromYaml }}
{{ toYaml $config }}
{{- end }}
{{- include "quartet.tlsconfig" (list . "server") }}
{{- include "quartet.tokensconfig" (list . "server") }}
{{- include "quartet.commonconfig" (list . "server") }}
{{- end }}

{{- define "quartet.clientconfig" -}}
{{ include "quartet.prefix" . }}SERVER: {{ include "quartet.target" . | quote }}
{{ include "quartet.prefix" . }}PROBE_ADDRESS: ":50053"
{{ include "quartet.prefix" . }}HTTP_ADDRESS: ":9465"
{{ include "quartet.prefix" . }}PROFILE_ADDRESS: "127.0.0.1:6060"
{{- with .Values.client.console }}
{{- if .enabled }}
{{ include "quartet.prefix" $ }}CONSOLE_ADDRESS: ":9466"
{{- with .traces }}
{{ include "quartet.prefix" $ }}CONSOLE_TRACE_URL: {{ . | quote }}
{{- end }}
{{- with .grafana }}
{{ include "quartet.prefix" $ }}CONSOLE_DASHBOARD_URL: {{ printf "%s/d/%s" (trimSuffix "/" .) (include "quartet.dashboarduid" (list $ "dashboards/calls.json")) | quote }}
{{- end }}
{{- if .rollout }}
{{ include "quartet.prefix" $ }}CONSOLE_ROLLOUT_URL: {{ printf "https://kubernetes.default.svc/apis/apps/v1/namespaces/%s/deployments/%s" $.Release.Namespace (include "quartet.componentname" (list $ "server")) | quote }}
{{- end }}
{{- end }}
{{- end }}
{{- include "quartet.tlsconfig" (list . "client") }}
{{- include "quartet.tokensconfig" (list . "client") }}
{{- include "quartet.commonconfig" (list . "client") }}
{{- end }}

{{/* What Grafana knows a dashboard of this release by: (list $ "dashboards/calls.json"). */}}
{{- define "quartet.dashboarduid" -}}
{{- $root := first . -}}
{{- $release := printf "%s/%s" $root.Release.Namespace (include "quartet.fullname" $root) -}}
{{- $dashboard := $root.Files.Get (last .) | fromJson -}}
{{- printf "%s-%s" (trunc 31 $dashboard.uid) (sha256sum $release | trunc 8) -}}
{{- end }}

{{/* Tokens of the console, if it has any. */}}
{{- define "quartet.consoleenv" -}}
{{- with .Values.client.console -}}
{{- if and .enabled .secret -}}
- name: {{ include "quartet.prefix" $ }}CONSOLE_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: token}}
- name: {{ include "quartet.prefix" $ }}CONSOLE_READ_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .secret | quote }}, key: read-token, optional: true}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* With what its button asks Kubernetes to replace the servers. */}}
{{- define "quartet.consolemounts" -}}
{{- with .Values.client.console -}}
{{- if and .enabled .rollout -}}
- {name: kubernetes, mountPath: /var/run/secrets/kubernetes.io/serviceaccount, readOnly: true}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "quartet.consolevolumes" -}}
{{- with .Values.client.console -}}
{{- if and .enabled .rollout -}}
- name: kubernetes
  projected:
    sources:
      - serviceAccountToken: {path: token}
      - configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}
{{- end -}}
{{- end -}}
{{- end }}

{{- define "quartet.commonconfig" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (last .) }}
{{ include "quartet.prefix" . }}DRAIN_BUDGET: {{ $values.drain.budgetSeconds }}s
{{ include "quartet.prefix" . }}DRAIN_DELAY: {{ $values.drain.delaySeconds }}s
{{ include "quartet.prefix" . }}DRAIN_SCRAPE_WAIT: {{ $values.drain.scrapeWaitSeconds }}s
{{- with $root.Values.telemetry }}
{{ include "quartet.prefix" . }}LOG_LEVEL: {{ .logLevel }}
{{ include "quartet.prefix" . }}LOG_FORMAT: {{ .logFormat }}
{{- with .otlpEndpoint }}
OTEL_EXPORTER_OTLP_ENDPOINT: {{ . | quote }}
{{- end }}
{{- with .sampler }}
OTEL_TRACES_SAMPLER: {{ . | quote }}
{{- end }}
{{- with .samplerArgument }}
OTEL_TRACES_SAMPLER_ARG: {{ . | quote }}
{{- end }}
{{- end }}
{{- range $name, $value := $values.config }}
{{ include "quartet.prefix" . }}{{ $name }}: {{ include "quartet.scalar" $value | quote }}
{{- end }}
{{- end }}

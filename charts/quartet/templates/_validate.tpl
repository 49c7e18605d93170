{{/*
What values.schema.json cannot say in words: combinations that would start and then lose data, or never start. Every
problem is one sentence that names what to set; all are reported together.
*/}}
{{- define "quartet.validate" -}}
{{- $problems := concat (include "quartet.nameproblems" . | fromJsonArray) (include "quartet.labelproblems" . | fromJsonArray) (include "quartet.twiceproblems" . | fromJsonArray) -}}
{{- $replicas := include "quartet.mostreplicas" . | int -}}
{{- $embedded := include "quartet.facts" (list . "embedded") | fromYaml -}}
{{- if and $embedded (gt $replicas 1) -}}
  {{- $key := ternary "server.autoscaling.maxReplicas" "server.replicas" .Values.server.autoscaling.enabled -}}
  {{- $ways := list -}}
  {{- range $embedded }}{{ $ways = append $ways . }}{{ end -}}
  {{- $problems = append $problems (printf "%s is %d, but %s would be embedded in each replica: set %s, or %s to 1" $key $replicas (include "quartet.embedded" .) (join " and " $ways) $key) -}}
{{- end -}}
{{- with .Values.server.autoscaling -}}
  {{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
    {{- $problems = append $problems (printf "server.autoscaling.minReplicas is %v, more than maxReplicas, which is %v" .minReplicas .maxReplicas) -}}
  {{- end -}}
{{- end -}}
{{- range $component := list "server" "client" -}}
  {{- $needed := include "quartet.drainseconds" (list $ $component) | int -}}
  {{- with index $.Values $component -}}
    {{- if and .terminationGracePeriodSeconds (lt (int .terminationGracePeriodSeconds) $needed) -}}
      {{- $problems = append $problems (printf "%s.terminationGracePeriodSeconds is %v, but the drain may take %d s: leave it out and it is computed, or set it to at least %d, or lower %s.drain.preStopSeconds or budgetSeconds" $component .terminationGracePeriodSeconds $needed $needed $component) -}}
    {{- end -}}
    {{- with .drain -}}
      {{- if le (int .budgetSeconds) (add .delaySeconds .scrapeWaitSeconds | int) -}}
        {{- $problems = append $problems (printf "%s.drain.budgetSeconds is %v, and delaySeconds and scrapeWaitSeconds leave nothing of it for calls under way: raise it" $component .budgetSeconds) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.gateway.enabled (not .Values.gateway.parentRefs) -}}
  {{- $problems = append $problems "gateway.enabled is true, but no gateway takes the route: set gateway.parentRefs to the names of some" -}}
{{- end -}}
{{- range $_, $sentences := include "quartet.facts" (list . "problems") | fromYaml -}}
  {{- $problems = concat $problems $sentences -}}
{{- end -}}
{{- with .Values.tls -}}
  {{- if and (ne .mode "off") (not .serverSecret) -}}
    {{- $problems = append $problems (printf "tls.mode is %s, so the server needs a certificate: set tls.serverSecret to the name of a Secret with tls.crt, tls.key and ca.crt" .mode) -}}
  {{- end -}}
  {{- if and (eq .mode "mtls") (not .clientSecret) -}}
    {{- $problems = append $problems "tls.mode is mtls, so the client needs a certificate too: set tls.clientSecret to the name of a Secret with tls.crt, tls.key and ca.crt" -}}
  {{- end -}}
{{- end -}}
{{- if $problems }}{{ fail (join "; and " $problems) }}{{ end -}}
{{- end }}

{{- define "quartet.nameproblems" -}}
{{- $problems := list -}}
{{- range $key := list "nameOverride" "fullnameOverride" -}}
  {{- $name := get $.Values $key | default "a" -}}
  {{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
    {{- $problems = append $problems (printf "%s is %q, but names in Kubernetes have only lower-case letters, digits and hyphens, with a letter first and no hyphen last" $key $name) -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "quartet.labelproblems" -}}
{{- $problems := list -}}
{{- $maps := dict "commonLabels" .Values.commonLabels "server.podLabels" .Values.server.podLabels "client.podLabels" .Values.client.podLabels "dashboards.labels" .Values.dashboards.labels "metrics.podMonitor.labels" .Values.metrics.podMonitor.labels "metrics.alerts.prometheusRule.labels" .Values.metrics.alerts.prometheusRule.labels "gateway.labels" .Values.gateway.labels -}}
{{- range $path, $labels := $maps -}}
  {{- range $label := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" -}}
    {{- if hasKey ($labels | default dict) $label -}}
      {{- $problems = append $problems (printf "%s has %s, by which Deployments and Services find their pods: leave it out, or set nameOverride" $path $label) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "quartet.twiceproblems" -}}
{{- $problems := list -}}
{{- $lists := list (list "imagePullSecrets" .Values.imagePullSecrets "name") -}}
{{- range $component := list "server" "client" -}}
  {{- range $list, $field := dict "extraEnv" "name" "extraVolumes" "name" "extraVolumeMounts" "mountPath" -}}
    {{- $lists = append $lists (list (printf "%s.%s" $component $list) (index $.Values $component $list) $field) -}}
  {{- end -}}
{{- end -}}
{{- range $lists -}}
  {{- $path := first . -}}
  {{- $field := last . -}}
  {{- $seen := list -}}
  {{- range index . 1 -}}
    {{- $entry := get . $field -}}
    {{- if has $entry $seen }}{{ $problems = append $problems (printf "%s has two entries with the %s %v" $path $field $entry) }}{{ end -}}
    {{- $seen = append $seen $entry -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

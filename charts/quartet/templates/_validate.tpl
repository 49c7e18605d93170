{{/*
What values.schema.json cannot say, or not in words: combinations that would start and then lose data, or never start, and
addresses. Every problem is one sentence that names what to set; all are reported together.
*/}}
{{- define "quartet.validate" -}}
{{- $problems := list -}}
{{- range list "name" "label" "twice" "mount" "resource" "address" "tls" "tokens" -}}
  {{- $problems = concat $problems (include (printf "quartet.%sproblems" .) $ | fromJsonArray) -}}
{{- end -}}
{{- $replicas := include "quartet.maxreplicas" . | int -}}
{{- $embedded := include "quartet.facts" (list . "embedded") | fromYaml -}}
{{- if and $embedded (gt $replicas 1) -}}
  {{- $key := ternary "server.autoscaling.maxReplicas" "server.replicas" .Values.server.autoscaling.enabled -}}
  {{- $ways := list -}}
  {{- range $embedded }}{{ $ways = append $ways . }}{{ end -}}
  {{- $problems = append $problems (printf "%s is %d, but %s would be embedded in each replica: set %s, or %s to 1" $key $replicas (include "quartet.embedded" .) (join " and " $ways) $key) -}}
{{- end -}}
{{- with .Values.server.autoscaling -}}
  {{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
    {{- $problems = append $problems (printf "server.autoscaling.minReplicas is %d, more than maxReplicas, which is %d" (int64 .minReplicas) (int64 .maxReplicas)) -}}
  {{- end -}}
{{- end -}}
{{- range $component := list "server" "client" -}}
  {{- $needed := include "quartet.drainseconds" (list $ $component) | int -}}
  {{- with index $.Values $component -}}
    {{- if and .terminationGracePeriodSeconds (lt (int .terminationGracePeriodSeconds) $needed) -}}
      {{- $problems = append $problems (printf "%s.terminationGracePeriodSeconds is %d, but the drain may take %d s: leave it out and it is computed, or set it to at least %d, or lower %s.drain.preStopSeconds or budgetSeconds" $component (int64 .terminationGracePeriodSeconds) $needed $needed $component) -}}
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
{{- with .Values.web -}}
  {{- if has (int .port) (list 50051 50052 9464 6060) -}}
    {{- $problems = append $problems (printf "web.port is %d, which is another port of the server: choose one that is free" (int .port)) -}}
  {{- end -}}
  {{- if and (has "*" .allowedOrigins) (gt (len .allowedOrigins) 1) -}}
    {{- $problems = append $problems "web.allowedOrigins has * and others beside it: leave it alone, or leave it out" -}}
  {{- end -}}
{{- end -}}
{{- if include "quartet.published" (list . "client") -}}
  {{- $type := .Values.client.service.type -}}
  {{- if not .Values.client.console.enabled -}}
    {{- $problems = append $problems (printf "client.service.type is %s, but without the console the client has nothing to publish, because metrics are for the inside of the cluster: set it to ClusterIP" $type) -}}
  {{- else if not .Values.client.console.secret -}}
    {{- $problems = append $problems (printf "client.service.type is %s, and without a token every peer outside of the cluster could do by the console what any caller may: set client.console.secret, or client.service.type to ClusterIP" $type) -}}
  {{- end -}}
{{- end -}}
{{- with .Values.client.console -}}
  {{- if and .enabled .rollout (not .secret) (ne $.Values.profile "development") -}}
    {{- $problems = append $problems "client.console.rollout is true, and without a token every peer that reaches the console could replace the servers: set client.console.secret, or for development profile to development" -}}
  {{- end -}}
{{- end -}}
{{- range $_, $sentences := include "quartet.facts" (list . "problems") | fromYaml -}}
  {{- $problems = concat $problems $sentences -}}
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
    {{- $entry := get . $field | printf "/%s" | clean -}}
    {{- if has $entry $seen }}{{ $problems = append $problems (printf "%s has two entries with the %s %s" $path $field (get . $field)) }}{{ end -}}
    {{- $seen = append $seen $entry -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{/* Kubernetes refuses a mount without a volume. */}}
{{- define "quartet.mountproblems" -}}
{{- $problems := list -}}
{{- range $component := list "server" "client" -}}
  {{- $volumes := list -}}
  {{- if ne $.Values.tls.mode "off" }}{{ $volumes = append $volumes "tls" }}{{ end -}}
  {{- if and (eq $component "server") $.Values.tls.permissions }}{{ $volumes = append $volumes "permissions" }}{{ end -}}
  {{- if include "quartet.tokensvolume" (list $ $component) }}{{ $volumes = append $volumes "tokens" }}{{ end -}}
  {{- if and (eq $component "server") (include "quartet.embedded" $) }}{{ $volumes = append $volumes "data" }}{{ end -}}
  {{- with index $.Values $component -}}
    {{- range .extraVolumes }}{{ $volumes = append $volumes .name }}{{ end -}}
    {{- range .extraVolumeMounts -}}
      {{- if not (has .name $volumes) -}}
        {{- $problems = append $problems (printf "%s.extraVolumeMounts has %s at %s, but no volume has that name: add it to %s.extraVolumes" $component .name .mountPath $component) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{/* Beside problems that Kubernetes would find: the least memory for which the limits on callers are sized. */}}
{{- define "quartet.resourceproblems" -}}
{{- $problems := list -}}
{{- $least := dict "server" "128Mi" "client" "64Mi" -}}
{{- range $component := list "server" "client" -}}
  {{- with index $.Values $component -}}
    {{- $limits := .resources.limits | default dict -}}
    {{- with $limits.memory -}}
      {{- if lt (include "quartet.quantity" . | float64) (include "quartet.quantity" (get $least $component) | float64) -}}
        {{- $problems = append $problems (printf "%s.resources.limits.memory is %v, and what callers may hold fits into no less than %s" $component . (get $least $component)) -}}
      {{- end -}}
    {{- end -}}
    {{- range $name, $request := .resources.requests -}}
      {{- $limit := get $limits $name | default 0 -}}
      {{- $more := subf (include "quartet.quantity" $request | float64) (include "quartet.quantity" $limit | float64) -}}
      {{- if and (hasKey $limits $name) (gt $more 0.0) -}}
        {{- $problems = append $problems (printf "%s.resources.requests.%s is %v, more than the limit, which is %v" $component $name $request $limit) -}}
      {{- else if and (not (has $name (list "cpu" "memory" "ephemeral-storage"))) (ne $more 0.0) -}}
        {{- $problems = append $problems (printf "%s.resources.requests.%s is %v, but Kubernetes wants a limit that is the same" $component $name $request) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

{{- define "quartet.addressproblems" -}}
{{- $collector := list "telemetry.otlpEndpoint" .Values.telemetry.otlpEndpoint "^https?://(?P<host>HOST)(:PORT)?(/[^\\s\"',]*)?$" "http://host:port or https://host:port" -}}
{{- $problems := list (include "quartet.addressproblem" $collector) -}}
{{- $targets := dict "client.server" .Values.client.server -}}
{{- range $name, $value := .Values.client.config -}}
  {{- if hasSuffix "_SERVER" $name }}{{ $_ := set $targets (printf "client.config.%s" $name) $value }}{{ end -}}
{{- end -}}
{{- range $path, $target := $targets -}}
  {{- $problems = append $problems (include "quartet.addressproblem" (list $path $target "^((?i:dns):(//(HOST(:PORT)?)?/)?)?(?P<host>HOST):PORT$" "host:port or dns:///host:port")) -}}
{{- end -}}
{{- compact $problems | toJson -}}
{{- end }}

{{/*
A sentence, if an address has another form than a pattern, in which HOST and PORT are what the programs take for those, or
begins with what gRPC takes for a scheme: (list "client.server" "a:1" "^(?P<host>HOST):PORT$" "host:port")
*/}}
{{- define "quartet.addressproblem" -}}
{{- $address := index . 1 | default "" -}}
{{- $name := "([A-Za-z0-9_-]+[.])*[A-Za-z0-9_-]*[A-Za-z_-][A-Za-z0-9_-]*[.]?" -}}
{{- $byte := "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])" -}}
{{- $ipv4 := printf "(%s[.]){3}%s" $byte $byte -}}
{{- $group := "[0-9A-Fa-f]{1,4}" -}}
{{- $ipv6 := list (printf "(%s:){7}%s" $group $group) (printf "(%s:){1,7}:" $group) (printf ":(:%s){1,7}" $group) "::" (printf "::([Ff]{4}:)?%s" $ipv4) -}}
{{- range $before := untilStep 1 7 1 -}}
  {{- $ipv6 = append $ipv6 (printf "(%s:){%d}(:%s){1,%d}" $group $before $group (sub 7 $before)) -}}
{{- end -}}
{{- $host := printf "(%s|%s|\\[(%s)\\])" $name $ipv4 (join "|" $ipv6) -}}
{{- $port := "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])" -}}
{{- $pattern := index . 2 | replace "HOST" $host | replace "PORT" $port -}}
{{- $found := regexReplaceAll $pattern $address "${host}" -}}
{{- $scheme := "^(?i:dns|ipv4|ipv6|passthrough|unix|unix-abstract|vsock|xds):[0-9]+$" -}}
{{- if and $address (or (not (regexMatch $pattern $address)) (gt (len $found) 253) (regexMatch "[^.]{64}" $found) (regexMatch $scheme $address)) -}}
{{- printf "%s is %q, which is not %s with a DNS name, an IPv4 address or an IPv6 address in brackets, and a port up to 65535" (first .) $address (last .) -}}
{{- end -}}
{{- end }}

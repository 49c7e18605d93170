{{/*
What values.schema.json cannot say in words: combinations that would start and then lose data, or never start. Every
problem is one sentence that names what to set; all are reported together.
*/}}
{{- define "quartet.validate" -}}
{{- $problems := list -}}
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

{{/*
What values.schema.json cannot say in words: combinations that would start and then lose data, or never start. Every
problem is one sentence that names what to set; all are reported together.
*/}}
{{- define "quartet.validate" -}}
{{- $problems := list -}}
{{- $replicas := include "quartet.mostreplicas" . | int -}}
{{- with include "quartet.embedded" . -}}
  {{- if gt $replicas 1 -}}
    {{- $key := ternary "server.autoscaling.maxReplicas" "server.replicas" $.Values.server.autoscaling.enabled -}}
    {{- $problems = append $problems (printf "%s is %d, but %s would be embedded in each replica: set server.objects.url to s3://… and server.channels.url to nats://…, or %s to 1" $key $replicas . $key) -}}
  {{- end -}}
{{- end -}}
{{- with .Values.server.autoscaling -}}
  {{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
    {{- $problems = append $problems (printf "server.autoscaling.minReplicas is %v, more than maxReplicas, which is %v" .minReplicas .maxReplicas) -}}
  {{- end -}}
{{- end -}}
{{- range $component := list "server" "client" -}}
  {{- $needed := include "quartet.drainseconds" (list $ $component) | int -}}
  {{- with (index $.Values $component).terminationGracePeriodSeconds -}}
    {{- if lt (int .) $needed -}}
      {{- $problems = append $problems (printf "%s.terminationGracePeriodSeconds is %d, but the drain may take %d s: leave it out and it is computed, or set it to at least %d, or lower what %s.drain waits for" $component (int .) $needed $needed $component) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- with .Values.server -}}
  {{- if contains "@" .channels.url -}}
    {{- $problems = append $problems "server.channels.url holds credentials, which everybody may read there: put them into a Secret with the keys NATS_USER and NATS_PASSWORD and set server.channels.secret to its name" -}}
  {{- end -}}
  {{- if and .channels.secret (not .channels.url) -}}
    {{- $problems = append $problems "server.channels.secret is set without server.channels.url: set both or neither" -}}
  {{- end -}}
  {{- if and .objects.secret (not .objects.url) -}}
    {{- $problems = append $problems "server.objects.secret is set without server.objects.url: set both or neither" -}}
  {{- end -}}
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

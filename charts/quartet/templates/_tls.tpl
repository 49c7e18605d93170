{{/* Certificates: where they come from, what is told to the programs about them, and what is wrong with the values. */}}

{{/* In mode "tls" only the server shows a certificate, and only the client has to know which authority to trust. */}}
{{- define "quartet.tlsconfig" -}}
{{- $tls := (first .).Values.tls }}
{{- $bundle := eq $tls.source "podCertificate" }}
{{ include "quartet.prefix" . }}RPC_TLS_MODE: {{ $tls.mode | quote }}
{{- if include "quartet.showscertificate" . }}
{{ include "quartet.prefix" . }}RPC_TLS_CERT_FILE: {{ ternary "/tls/bundle.pem" "/tls/tls.crt" $bundle }}
{{ include "quartet.prefix" . }}RPC_TLS_KEY_FILE: {{ ternary "/tls/bundle.pem" "/tls/tls.key" $bundle }}
{{- end }}
{{- if or (eq $tls.mode "mtls") (and (eq $tls.mode "tls") (eq (last .) "client")) }}
{{ include "quartet.prefix" . }}RPC_TLS_CA_FILE: /tls/ca.crt
{{- end }}
{{- if and $tls.permissions (eq (last .) "server") }}
{{ include "quartet.prefix" . }}RPC_PERMISSIONS_FILE: /permissions/permissions.json
{{- end }}
{{- end }}

{{/*
What a Service tells meshes and gateways about the port for gRPC. To Istio grpc is plaintext, and https is TLS that it passes
on; Kubernetes takes https for the name that IANA has registered.
*/}}
{{- define "quartet.appprotocol" -}}
{{- ternary "grpc" "https" (eq .Values.tls.mode "off") -}}
{{- end }}

{{- define "quartet.showscertificate" -}}
{{- $mode := (first .).Values.tls.mode -}}
{{- if or (eq $mode "mtls") (and (eq $mode "tls") (eq (last .) "server")) }}true{{ end -}}
{{- end }}

{{/*
The files for it. They are mounted as a folder, because Kubernetes renews nothing that is mounted by subPath. With fsGroup the
group of the process may read the key, and others may not.
*/}}
{{- define "quartet.tlsvolume" -}}
{{- $me := list (first .) (index . 1) -}}
{{- $root := first . -}}
{{- $tls := $root.Values.tls -}}
name: tls
{{- if eq $tls.source "podCertificate" }}
projected:
  defaultMode: {{ include "quartet.keymode" $root }}
  sources:
    {{- if include "quartet.showscertificate" $me }}
    # Key and certificates in one file, so that the two are always of each other.
    - podCertificate:
        signerName: {{ $tls.podCertificate.signerName | quote }}
        keyType: {{ $tls.podCertificate.keyType }}
        maxExpirationSeconds: {{ int64 $tls.podCertificate.maxExpirationSeconds }}
        credentialBundlePath: bundle.pem
    {{- end }}
    - clusterTrustBundle:
        signerName: {{ $tls.podCertificate.signerName | quote }}
        labelSelector: {} # All of the signer's, so that an old authority and its successor are both trusted.
        path: ca.crt
{{- else }}
secret:
  secretName: {{ include "quartet.tlssecret" $me | quote }}
  defaultMode: {{ include "quartet.keymode" $root }}
  {{- if not (include "quartet.showscertificate" $me) }}
  items: [{key: ca.crt, path: ca.crt}]
  {{- end }}
{{- end }}
{{- end }}

{{/* 0440, or 0444 where the files belong to no group of the process. */}}
{{- define "quartet.keymode" -}}
{{- ternary 288 292 (ne (toString .Values.podSecurityContext.fsGroup) "<nil>") -}}
{{- end }}

{{- define "quartet.tlssecret" -}}
{{- $tls := (first .).Values.tls -}}
{{- $component := ternary (last .) "server" (ne (include "quartet.showscertificate" .) "") -}}
{{- if eq $tls.source "generated" -}}
{{- include "quartet.componentname" . | trimSuffix (last .) }}{{ $component }}-tls
{{- else -}}
{{- get (dict "server" $tls.serverSecret "client" ($tls.clientSecret | default $tls.serverSecret)) (last .) -}}
{{- end -}}
{{- end }}

{{/* The names in a generated certificate: those of the component's Services, of which the first one stands in permissions. */}}
{{- define "quartet.tlsnames" -}}
{{- $name := include "quartet.componentname" . -}}
{{- $names := list $name -}}
{{- range ternary (list $name (printf "%s-headless" $name)) (list $name) (eq (last .) "server") -}}
  {{- $names = append $names (printf "%s.%s.svc" . (first $).Release.Namespace) -}}
  {{- with (first $).Values.clusterDomain }}{{ $names = append $names (printf "%s.%s" (last $names) .) }}{{ end -}}
{{- end -}}
{{- if eq (last .) "server" }}{{ $names = append $names "localhost" }}{{ end -}}
{{- toJson $names -}}
{{- end }}

{{- define "quartet.tlsproblems" -}}
{{- $problems := list -}}
{{- with .Values.tls -}}
  {{- if and (eq .source "secret") (ne .mode "off") (not .serverSecret) -}}
    {{- $problems = append $problems (printf "tls.mode is %s, so the server needs a certificate: set tls.serverSecret to the name of a Secret with tls.crt, tls.key and ca.crt, or tls.source to podCertificate or generated" .mode) -}}
  {{- end -}}
  {{- if and (eq .source "secret") (eq .mode "mtls") (not .clientSecret) -}}
    {{- $problems = append $problems "tls.mode is mtls, so the client needs a certificate too: set tls.clientSecret to the name of a Secret with tls.crt, tls.key and ca.crt" -}}
  {{- end -}}
  {{- if and (ne .source "secret") (or .serverSecret .clientSecret) -}}
    {{- $problems = append $problems (printf "tls.source is %s, which needs no Secrets of yours: leave tls.serverSecret and tls.clientSecret out, or set tls.source to secret" .source) -}}
  {{- end -}}
  {{- if and (eq .source "podCertificate") (ne .mode "off") -}}
    {{- if not .podCertificate.signerName -}}
      {{- $problems = append $problems "tls.source is podCertificate, but no signer is asked for certificates: set tls.podCertificate.signerName to the name of one" -}}
    {{- end -}}
    {{- $missing := list -}}
    {{- range list "PodCertificateRequest" "ClusterTrustBundle" -}}
      {{- if not ($.Capabilities.APIVersions.Has (printf "certificates.k8s.io/v1/%s" .)) }}{{ $missing = append $missing . }}{{ end -}}
    {{- end -}}
    {{- with $missing -}}
      {{- $problems = append $problems (printf "tls.source is podCertificate, but the cluster has no %s of certificates.k8s.io/v1, which are there since Kubernetes 1.37, and older ones would start pods without certificates: set tls.source to secret (to render the chart without a cluster, give helm template --api-versions certificates.k8s.io/v1/PodCertificateRequest,certificates.k8s.io/v1/ClusterTrustBundle)" (join " and no " .)) -}}
    {{- end -}}
  {{- end -}}
  {{- if and .permissions (ne .mode "mtls") (not $.Values.tokens.issuer) -}}
    {{- $problems = append $problems (printf "tls.permissions name callers by their certificates or tokens, and with tls.mode %s they have none: set tls.mode to mtls, or tokens.issuer" .mode) -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

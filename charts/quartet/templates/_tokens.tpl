{{/* Bearer tokens: what is told to the programs about them, the files for it, and what is wrong with the values. */}}

{{- define "quartet.tokensconfig" -}}
{{- $tokens := (first .).Values.tokens }}
{{- if and $tokens.issuer (eq (last .) "server") }}
{{ include "quartet.prefix" . }}RPC_TOKEN_ISSUER: {{ $tokens.issuer | quote }}
{{ include "quartet.prefix" . }}RPC_TOKEN_AUDIENCE: {{ $tokens.audience | quote }}
{{ include "quartet.prefix" . }}RPC_TOKEN_CERTIFICATE_OPTIONAL: {{ $tokens.certificateOptional | quote }}
{{- if $tokens.jwks.configMap }}
{{ include "quartet.prefix" . }}RPC_TOKEN_JWKS_FILE: /tokens/jwks.json
{{- end }}
{{- if $tokens.jwks.cluster }}
{{ include "quartet.prefix" . }}RPC_TOKEN_JWKS_URL: https://kubernetes.default.svc/openid/v1/jwks
{{ include "quartet.prefix" . }}RPC_TOKEN_JWKS_CA_FILE: /tokens/ca.crt
{{ include "quartet.prefix" . }}RPC_TOKEN_JWKS_TOKEN_FILE: /tokens/token
{{- else if $tokens.jwks.url }}
{{ include "quartet.prefix" . }}RPC_TOKEN_JWKS_URL: {{ $tokens.jwks.url | quote }}
{{- end }}
{{- end }}
{{- if and $tokens.client.enabled (eq (last .) "client") }}
{{ include "quartet.prefix" . }}RPC_TOKEN_FILE: /tokens/token
{{- end }}
{{- end }}

{{/*
The files for it, if there are any: keys for the server, and tokens of the pods' service accounts, which the kubelet renews. They
are mounted as a folder, because Kubernetes renews nothing that is mounted by subPath.
*/}}
{{- define "quartet.tokensvolume" -}}
{{- $tokens := (first .).Values.tokens -}}
{{- $sources := list -}}
{{- if and (eq (index . 1) "server") $tokens.issuer -}}
  {{- with $tokens.jwks.configMap -}}
    {{- $sources = append $sources (dict "configMap" (dict "name" . "items" (list (dict "key" "jwks.json" "path" "jwks.json")))) -}}
  {{- end -}}
  {{- if $tokens.jwks.cluster -}}
    {{- $sources = append $sources (dict "configMap" (dict "name" "kube-root-ca.crt" "items" (list (dict "key" "ca.crt" "path" "ca.crt")))) -}}
    {{- $sources = append $sources (dict "serviceAccountToken" (dict "path" "token" "expirationSeconds" 3600)) -}}
  {{- end -}}
{{- end -}}
{{- if and (eq (index . 1) "client") $tokens.client.enabled -}}
  {{- $sources = append $sources (dict "serviceAccountToken" (dict "path" "token" "audience" $tokens.audience "expirationSeconds" (int64 $tokens.client.expirationSeconds))) -}}
{{- end -}}
{{- with $sources -}}
name: tokens
projected:
  sources:
    {{- toYaml . | nindent 4 }}
{{- end -}}
{{- end }}

{{- define "quartet.tokensproblems" -}}
{{- $problems := list -}}
{{- $off := eq .Values.tls.mode "off" -}}
{{- with .Values.tokens -}}
  {{- $keys := list -}}
  {{- if .jwks.configMap }}{{ $keys = append $keys "configMap" }}{{ end -}}
  {{- if .jwks.url }}{{ $keys = append $keys "url" }}{{ end -}}
  {{- if .jwks.cluster }}{{ $keys = append $keys "cluster" }}{{ end -}}
  {{- if and .issuer (not .audience) -}}
    {{- $problems = append $problems "tokens.issuer is set, but no audience that tokens have to be for: set tokens.audience" -}}
  {{- end -}}
  {{- if and .issuer (not $keys) -}}
    {{- $problems = append $problems "tokens.issuer is set, but there are no keys to verify its tokens by: set tokens.jwks.configMap, .url or .cluster" -}}
  {{- end -}}
  {{- if and .jwks.url .jwks.cluster -}}
    {{- $problems = append $problems "tokens.jwks.url and .cluster are both set, and the server fetches keys from one address: leave one of them out" -}}
  {{- end -}}
  {{- if and (not .issuer) (or $keys .certificateOptional) -}}
    {{- $problems = append $problems "tokens.issuer is empty, so the server accepts no tokens, and other values of tokens have no use: set it, or leave them out" -}}
  {{- end -}}
  {{- if and .issuer $off (ne (toString $.Values.server.config.RPC_TOKEN_PLAINTEXT) "true") -}}
    {{- $problems = append $problems "tokens.issuer is set, and with tls.mode off others can read tokens on their way: set tls.mode to tls or mtls, or for development server.config.RPC_TOKEN_PLAINTEXT to true" -}}
  {{- end -}}
  {{- if and .certificateOptional (ne $.Values.tls.mode "mtls") -}}
    {{- $problems = append $problems "tokens.certificateOptional is true, but without tls.mode mtls clients show no certificates: leave it out" -}}
  {{- end -}}
  {{- if and .jwks.cluster (ne $.Values.tls.mode "mtls") (not .client.enabled) (not $.Values.client.server) -}}
    {{- $problems = append $problems "tokens.jwks.cluster is true, so the server wants a token of each caller, and the client of this release sends none: set tokens.client.enabled to true" -}}
  {{- end -}}
  {{- if and .client.enabled (not .audience) -}}
    {{- $problems = append $problems "tokens.client.enabled is true, but no audience is set that its token is for: set tokens.audience" -}}
  {{- end -}}
  {{- if and .client.enabled $off (ne (toString $.Values.client.config.RPC_TOKEN_PLAINTEXT) "true") -}}
    {{- $problems = append $problems "tokens.client.enabled is true, and with tls.mode off others can read tokens on their way: set tls.mode to tls or mtls, or for development client.config.RPC_TOKEN_PLAINTEXT to true" -}}
  {{- end -}}
{{- end -}}
{{- toJson $problems -}}
{{- end }}

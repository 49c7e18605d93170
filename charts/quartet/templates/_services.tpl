{{/*
What the services of this release are and need. A service is a folder services/<name>/ with any of

  values.yaml          its values with their defaults; they are services.<name> in the values of the chart.
                       values-<profile>.yaml has those that a profile changes, and may name .Release in them
  values.schema.json   what they may be; `make generate` puts it into the schema of the chart
  server.yaml          what the server's pod needs for it, see below
  dashboards/, alerts/ its part of what the chart has in folders of these names
  ci/                  values that `make charts` tries

No template names a service. server.yaml is a template, in which .Values are the service's own, .Volume is the size of the
server's volume in bytes, or empty if the chart does not know it, and .Config is what server.config sets; what it renders is
a map of

  config    variables of the server's ConfigMap, whose names begin with what "quartet.prefix" says
  env       variables of the server's container that a ConfigMap cannot hold, such as references to Secrets
  embedded  set if the service keeps its data in a folder below /data, on the server's volume. The folder belongs to one
            process, so there is one replica. The text says which value to set to have the data elsewhere
  egress    what the server has to reach, [{address, port}]: the port is that of addresses without one
  problems  sentences about values that do not fit each other; any of them stops the installation
  notes     what helm says about the service after the installation

All of them may be left out.
*/}}

{{/* The facts of all services by name, as YAML. */}}
{{- define "quartet.services" -}}
{{- range $path, $_ := .Files.Glob "services/*/server.yaml" }}
{{- $name := base (dir $path) }}
{{- $own := dict "Values" (include "quartet.servicevalues" (list $ $name) | fromYaml) "Release" $.Release "Chart" $.Chart "Template" $.Template "Volume" (include "quartet.volume" $) "Config" ($.Values.server.config | default dict) }}
{{- $facts := tpl ($.Files.Get $path) $own | fromYaml }}
{{- range $key, $value := omit $facts "config" "env" "embedded" "egress" "problems" "notes" }}
{{- fail (printf "%s: %s: %v" $path $key $value) }}
{{- end }}
{{ $name }}: {{ toJson $facts }}
{{- end }}
{{- end }}

{{/*
The size in bytes of the server's volume: of the claim that the chart makes, or of the folder that goes with the pod. Empty if it
is a claim or a volume of the user's, whose size the chart does not know.
*/}}
{{- define "quartet.volume" -}}
{{- $own := true -}}
{{- range .Values.server.extraVolumes }}{{ if eq .name "data" }}{{ $own = false }}{{ end }}{{ end -}}
{{- with .Values.server.persistence -}}
{{- if and $own (not (and .enabled .existingClaim)) }}{{ include "quartet.quantity" (include "quartet.scalar" .size) }}{{ end -}}
{{- end -}}
{{- end }}

{{/* The values of a service, as YAML: its defaults, those of the profile, and what is set under services.<name>. */}}
{{- define "quartet.servicevalues" -}}
{{- $root := first . -}}
{{- $folder := printf "services/%s" (last .) -}}
{{- $defaults := $root.Files.Get (printf "%s/values.yaml" $folder) | fromYaml -}}
{{- $profile := tpl ($root.Files.Get (printf "%s/values-%s.yaml" $folder $root.Values.profile)) $root | fromYaml -}}
{{- $set := get ($root.Values.services | default dict) (last .) | default dict -}}
{{- mergeOverwrite $defaults $profile $set | toYaml -}}
{{- end }}

{{/* One fact of all services, with those left out that do not have it, as YAML: (list $ "config") */}}
{{- define "quartet.facts" -}}
{{- $key := last . -}}
{{- range $name, $facts := include "quartet.services" (first .) | fromYaml }}
{{- with get $facts $key }}
{{ $name }}: {{ toJson . }}
{{- end }}
{{- end }}
{{- end }}

{{/* The services that keep their data in the server's own process: names with "and" between them, or nothing. */}}
{{- define "quartet.embedded" -}}
{{- include "quartet.facts" (list . "embedded") | fromYaml | keys | sortAlpha | join " and " -}}
{{- end }}

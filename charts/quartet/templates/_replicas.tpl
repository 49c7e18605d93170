{{/*
How many replicas a Deployment asks for, as a line of its spec or nothing: (list $ "server"). Once an autoscaler or kubectl
scale has set the number, it stays until the value changes, which the annotation remembers. Helm 4 applies server-side: then
the number has to be left out, because Kubernetes reports a conflict if it has changed since the release that said it, and
keeps it for the one who has set it. Otherwise what is there is said again, because Kubernetes would make it 1 where it
vanishes from a manifest.
*/}}
{{- define "quartet.replicas" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (last .) -}}
{{- $automatic := ($values.autoscaling).enabled -}}
{{- $there := lookup "apps/v1" "Deployment" $root.Release.Namespace (include "quartet.componentname" .) -}}
{{- $applied := false -}}
{{- $scaled := false -}}
{{- range dig "metadata" "managedFields" list $there -}}
{{- if eq (.subresource | default "") "scale" }}{{ $scaled = true }}{{ else if eq .operation "Apply" }}{{ $applied = true }}{{ end -}}
{{- end -}}
{{- $remembered := dig "metadata" "annotations" "values/replicas" "" $there -}}
{{- if and $there (or $automatic (and $scaled (eq $remembered (toString $values.replicas)))) -}}
{{- if not (and $applied $scaled) }}replicas: {{ $there.spec.replicas }}{{ end -}}
{{- else if not $automatic -}}
replicas: {{ $values.replicas }}
{{- end -}}
{{- end }}

{{/*
How many replicas a Deployment asks for, or nothing: (list $ "server"). Once an autoscaler or kubectl scale has set the
number, it stays until the value changes, which an annotation remembers.

The number is left out where it never was in a manifest, and where Helm applies server-side, as Helm 4 does: Kubernetes keeps
it for the manager of the field, and would report a conflict where a manifest says another one. Otherwise what is there is said
again, because Kubernetes makes it 1 where it vanishes from a manifest.
*/}}
{{- define "quartet.replicas" -}}
{{- $root := first . -}}
{{- $values := index $root.Values (last .) -}}
{{- $automatic := ($values.autoscaling).enabled -}}
{{- $set := $values.replicas | int64 -}}
{{- $there := lookup "apps/v1" "Deployment" $root.Release.Namespace (include "quartet.componentname" .) -}}
{{- $applied := false -}}
{{- $scaled := false -}}
{{- range dig "metadata" "managedFields" list $there -}}
{{- if eq (.subresource | default "") "scale" }}{{ $scaled = true }}{{ else if eq .operation "Apply" }}{{ $applied = true }}{{ end -}}
{{- end -}}
{{- $remembered := dig "metadata" "annotations" "values/replicas" "" $there -}}
{{- if and $automatic (or (not $there) (eq $remembered "auto") (and $applied $scaled)) -}}
{{- else if $automatic -}}
{{- if $there.spec.replicas }}{{ max $there.spec.replicas $values.autoscaling.minReplicas }}{{ else }}0{{ end -}}
{{- else if and $scaled (has $remembered (list "" "auto" (toString $set))) -}}
{{- if not $applied }}{{ $there.spec.replicas }}{{ end -}}
{{- else -}}
{{- $set -}}
{{- end -}}
{{- end }}

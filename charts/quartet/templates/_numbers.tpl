{{/* Numbers that follow from other numbers. */}}

{{/*
The seconds from the beginning of a pod's end to its process's exit, at most: the pause before SIGTERM, what the process
may take after it, and 5 s more for a busy node.
*/}}
{{- define "quartet.drainseconds" -}}
{{- $drain := (index (first .).Values (last .)).drain -}}
{{- add $drain.preStopSeconds $drain.budgetSeconds 5 -}}
{{- end }}

{{- define "quartet.graceseconds" -}}
{{- (index (first .).Values (last .)).terminationGracePeriodSeconds | default (include "quartet.drainseconds" .) | int64 -}}
{{- end }}

{{/* A value in plain digits. Helm reads 4194304 as a float and would write 4.194304e+06. */}}
{{- define "quartet.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}{{ else }}{{ toString . }}{{ end -}}
{{- end }}

{{/* A quantity of Kubernetes, such as 1e9, 0.5 or 1.5Gi, as a number to compare. */}}
{{- define "quartet.quantity" -}}
{{- $text := toString . -}}
{{- $unit := regexFind "[a-zA-Z]*$" $text -}}
{{- $units := dict "" 1 "n" 1e-9 "u" 1e-6 "m" 1e-3 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "P" 1e15 "E" 1e18 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 "Pi" 1125899906842624 "Ei" 1152921504606846976 -}}
{{- mulf (trimSuffix $unit $text | float64) (get $units $unit) -}}
{{- end }}

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
{{- (index (first .).Values (last .)).terminationGracePeriodSeconds | default (include "quartet.drainseconds" .) -}}
{{- end }}

{{/*
What Go may use of a quantity of memory, in bytes: nine tenths, but not the last 32 MiB. The rest is for what its
collector does not count: the kernel's buffers, files under way, and the program itself, which is read from the disk again
and again where there is no room for it. Of very little memory it is half.
*/}}
{{- define "quartet.gomemlimit" -}}
{{- $quantity := include "quartet.scalar" . -}}
{{- $number := regexFind "^[0-9.]+" $quantity -}}
{{- $units := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := trimPrefix $number $quantity -}}
{{- if hasKey $units $unit -}}
{{- $bytes := mulf (float64 $number) (get $units $unit) -}}
{{- maxf (minf (mulf $bytes 0.9) (subf $bytes 33554432)) (mulf $bytes 0.5) | int64 -}}
{{- end -}}
{{- end }}

{{/* A value as the environment wants it. Helm reads 4194304 as a float and would write 4.194304e+06. */}}
{{- define "quartet.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end -}}
{{- end }}

{{/* The ports in an address, or what its kind of address has by default, as a list: (list "s3://…" 443) */}}
{{- define "quartet.ports" -}}
{{- $ports := list -}}
{{- range regexFindAll ":[0-9]+" (first .) -1 | default (list (printf ":%v" (last .))) | uniq -}}
{{- $ports = append $ports (trimPrefix ":" . | int) -}}
{{- end -}}
{{- toJson $ports -}}
{{- end }}

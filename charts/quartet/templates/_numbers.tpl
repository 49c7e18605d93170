{{/* Numbers that follow from other numbers. */}}

{{/*
The seconds from the beginning of a pod's end to its process's exit, at most: the pause before SIGTERM, what the drain
waits for on purpose, the slack of its steps (in the code: six of 5 s in server/main.go, five of 1 s or, for the traces,
2 s in client/drain.go, and what a step or service that overruns is still waited for), and 5 s more for a busy node.
*/}}
{{- define "quartet.drainseconds" -}}
{{- $drain := (index (first .).Values (last .)).drain -}}
{{- $slack := get (dict "server" 30 "client" 6) (last .) -}}
{{- add $drain.preStopSeconds $drain.delaySeconds $drain.timeoutSeconds $drain.scrapeWaitSeconds $slack 5 -}}
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

{{/* The ports in an address, or what its kind of address has by default: (list "s3://…" 443) */}}
{{- define "quartet.ports" -}}
{{- range regexFindAll ":[0-9]+" (first .) -1 | default (list (printf ":%v" (last .))) | uniq }}
- {port: {{ trimPrefix ":" . }}, protocol: TCP}
{{- end }}
{{- end }}

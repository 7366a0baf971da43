complete -c secretvmm -l kernel -d 'Kernel: a bzImage, or an ELF vmlinux built with CONFIG_PVH' -r -F
complete -c secretvmm -l initrd -d 'Initial RAM disk' -r -F
complete -c secretvmm -l cmdline -d 'Kernel command line; replaces the default altogether' -r
complete -c secretvmm -l mem -d 'Guest memory with a suffix K, M or G, at least 32M; rounded up to a multiple of 2M' -r
complete -c secretvmm -l cpus -d 'Number of vCPUs, 1 to 32' -r
complete -c secretvmm -l memory -d 'What guest memory is made of: secret or shared; see below' -r
complete -c secretvmm -l disk -d 'A disk, again for each further one; the first is the root device, unless --cmdline has a root=' -r
complete -c secretvmm -l net -d 'A network interface on a TAP, again for each further one' -r
complete -c secretvmm -l vsock -d 'Sockets between host and guest: the guest\'s context id, and a unix socket of the host\'s' -r
complete -c secretvmm -l api-sock -d 'Serve the API on this unix socket' -r -F
complete -c secretvmm -l config-file -d 'Take the VM from a JSON file with the API\'s resources' -r -F
complete -c secretvmm -l id -d 'Name of the VM in the API and in logs' -r
complete -c secretvmm -l metadata -d 'Contents of the metadata service (MMDS), a JSON file' -r -F
complete -c secretvmm -l http-api-max-payload-size -d 'Most bytes of one request\'s body' -r
complete -c secretvmm -l mmds-size-limit -d 'Most bytes of the metadata service\'s contents; by default as much as a request\'s body' -r
complete -c secretvmm -l log-level -l level -d 'How much to log: off, error, warn (default), info, debug or trace' -r
complete -c secretvmm -l log-path -d 'Log to this file or named pipe instead of standard error' -r -F
complete -c secretvmm -l module -d 'Log only what comes from this module' -r
complete -c secretvmm -l metrics-path -d 'Write metrics to this file or named pipe, as lines of JSON' -r -F
complete -c secretvmm -l seccomp-filter -d 'Firecracker\'s filters of its own system calls: refused, they would not fit this program' -r
complete -c secretvmm -l shutdown-timeout -d 'How long a guest that is asked to shut down may take; SIGTERM then asks for it, instead of ending the VM at once' -r
complete -c secretvmm -l start-time-us -d 'When this process was started, in microseconds; taken from jailers and not used' -r
complete -c secretvmm -l start-time-cpu-us -d 'As above, of the CPU clock' -r
complete -c secretvmm -l parent-cpu-time-us -d 'CPU time of the parent' -r
complete -c secretvmm -l rng -d 'An entropy device'
complete -c secretvmm -l no-api -d 'Serve no API; for callers that always say so'
complete -c secretvmm -l show-level -d 'Begin each message in the file with its level'
complete -c secretvmm -l show-log-origin -d 'Begin each message in the file with its place in the source'
complete -c secretvmm -l boot-timer -d 'Log how long the guest takes to boot, when it writes 123 to 0xc0000000'
complete -c secretvmm -l no-seccomp -d 'Run without system call filters; there are none yet'
complete -c secretvmm -s h -l help -d 'Print this help; -h prints a summary'
complete -c secretvmm -s V -l version -d 'Print the version'

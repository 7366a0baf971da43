# From PVH's entry (32 bits, no paging, EBX: start info) to 64 bits: the first 4 GiB mapped one to one, and the first
# GiB once more where kernels run, -2 GiB, as this program does. There are KVMs that interpret what runs elsewhere.
    .set HIGH, 0xffffffff80000000
    .section .note.pvh, "a", @note
    .balign 4
    .long 4, 4, 18
    .asciz "Xen"
    .long start32 - HIGH

    .section .text.start, "ax"
    .code32
    .globl start32
start32:
    mov %ebx, %ebp
    movl $pdpt + 7 - HIGH, pml4 - HIGH
    movl $high + 7 - HIGH, pml4 + 511 * 8 - HIGH
    movl $pd + 7 - HIGH, high + 510 * 8 - HIGH
    mov $pd + 7 - HIGH, %eax
    mov $pdpt - HIGH, %edi
    mov $4, %ecx
1:  mov %eax, (%edi)
    add $0x1000, %eax
    add $8, %edi
    loop 1b
    mov $0x87, %eax
    mov $pd - HIGH, %edi
    mov $2048, %ecx
2:  mov %eax, (%edi)
    add $0x200000, %eax
    add $8, %edi
    loop 2b
    mov %cr4, %eax
    or $0x620, %eax                 # PAE, OSFXSR, OSXMMEXCPT
    mov %eax, %cr4
    mov $pml4 - HIGH, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax                 # NXE, LME, SCE
    wrmsr
    mov %cr0, %eax
    and $~4, %eax                   # EM
    or $0x80050022, %eax            # PG, AM, WP, NE, MP
    mov %eax, %cr0
    lgdt gdt_register - HIGH
    ljmp $8, $start64 - HIGH
    .code64
start64:
    mov $5f, %rax
    jmp *%rax
5:  lgdt high_gdt_register
    mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %fs
    mov %eax, %gs
    mov %eax, %ss
    mov $stack_top, %rsp
    mov $0xc0000081, %ecx           # STAR: SYSCALL finds the kernel's segments
    xor %eax, %eax
    mov $8, %edx
    wrmsr
    inc %ecx                        # LSTAR
    mov $3f, %rax
    mov %rax, %rdx
    shr $32, %rdx
    wrmsr
    mov $tss, %rax                  # Its base lies in four pieces of its descriptor.
    mov %ax, tss_descriptor + 2
    shr $16, %rax
    mov %al, tss_descriptor + 4
    mov %ah, tss_descriptor + 7
    shr $16, %rax
    mov %eax, tss_descriptor + 8
    movw $104, tss + 102            # All ports: the map behind it is zeros.
    mov $40, %eax
    ltr %ax
    mov %ebp, %edi
    push $0x1b
    push $stack_top - 8
    push $2
    push $0x23
    push $guest_main
    iretq
3:  cli
    hlt
    jmp 3b

    .balign 8
gdt: .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff
tss_descriptor: .quad 0x0000890000002068, 0
gdt_register:
    .word 55
    .long gdt - HIGH
high_gdt_register:
    .word 55
    .quad gdt

    .section .bss.boot, "aw", @nobits
    .balign 4096
pml4: .skip 4096
pdpt: .skip 4096
high: .skip 4096
pd: .skip 4 * 4096
    .skip 65536
stack_top:
tss: .skip 3 * 4096
